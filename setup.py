"""Packaging: the top-level folders install as subpackages of ``adaptiverec``.

A user's own project may well hold a ``model.py`` or a ``pipeline/``, so the folders
never become top-level imports: ``pipeline/`` is ``adaptiverec.pipeline``, and so on.
``adaptiverec`` itself is a namespace package without an ``__init__``.
"""

from setuptools import setup

PACKAGES = ["common", "pipeline", "model", "serving"]

# What every stage shares: the command line and its progress bars.
BASE = ["cyclopts>=4.0,<6", "pyyaml>=6", "rich>=13.7"]
# The pages of the reports, and their pictures.
REPORT = ["jinja2>=3.1.6,<4", "matplotlib>=3.10,<4"]
# A Beam worker: no TensorFlow. pyarrow parses, google-crc32c frames TFRecords. The data
# report is made in the driver.
PIPELINE = [
    *REPORT,
    "apache-beam>=2.70,<3",
    "google-crc32c>=1.5,<2",
    "numpy>=2.0,<3",
    "pyarrow>=18,<26",
]
TRAIN = [
    *REPORT,
    "keras>=3.12,<4",
    "numpy>=2.0,<3",
    "tensorboard>=2.20,<2.22",
    "tensorflow>=2.20,<2.22",
]
# `adaptiverec tune`; its Bayesian search brings scikit-learn and SciPy.
TUNE = ["keras-tuner[bayesian]>=1.4.7,<2"]
# To export and to serve. tf-keras is what tensorflow-recommenders imports beside Keras 3.
SERVING = [
    *TRAIN,
    "grpcio>=1.73,<2",
    "grpcio-health-checking>=1.73,<2",
    "grpcio-reflection>=1.73,<2",
    "protobuf>=6.31,<7",
    "tensorflow-recommenders>=0.7.7,<0.8",
    "tensorflow-serving-api>=2.19,<2.22",
    "tf-keras>=2.20,<2.22",
    "uvicorn>=0.30,<1",
    "uvloop>=0.21,<1",
]
# The client has message definitions of its own: neither TensorFlow nor Keras.
CLIENT = ["grpcio>=1.73,<2", "protobuf>=6.31,<7"]
DEVELOPMENT = [
    "build>=1.2",
    "hypothesis>=6.100",
    "mypy>=1.15",
    # polars and pandas: the rivals in benchmarks/.
    "pandas>=2",
    "polars>=1",
    "prometheus-client>=0.20",
    "pytest>=8",
    "pytest-xdist>=3.6",
    "ruff>=0.11",
    "setuptools>=77",
    "trustme>=1.1",
    "types-pyyaml",
]

setup(
    packages=[f"adaptiverec.{name}" for name in PACKAGES],
    package_dir={f"adaptiverec.{name}": name for name in PACKAGES},
    package_data={
        f"adaptiverec.{name}": ["py.typed", "*.j2", "*.proto", "*.pyi", "deploy/*"]
        for name in PACKAGES
    },
    install_requires=BASE,
    extras_require={
        "pipeline": PIPELINE,
        "train": TRAIN,
        "tune": [*TRAIN, *TUNE],
        "serving": SERVING,
        "client": CLIENT,
        "all": sorted({*PIPELINE, *SERVING, *CLIENT, *TUNE}),
        "dev": DEVELOPMENT,
    },
)
