# Set-up and daily work. `make demo` and `make test` need nothing but Python 3.11 to 3.13.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
# The demonstration: a log of your own, and options such as --user-column.
LOG ?=
DEMO ?= .demo
DEMO_OPTIONS ?=
# Options of the benchmark, such as --rows.
BENCH_OPTIONS ?=
# A worker that dies ends the run: another one would begin again with what killed it.
IN_PARALLEL = -n 2 --dist loadfile --max-worker-restart 0

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-flink test-spark lint format bench lock protos dist clean

help: ## Lists the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(INSTALLED) ## Makes the environment from the lock file.

$(INSTALLED): requirements.lock setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

demo: $(INSTALLED) ## Raw log to answer over gRPC. LOG=path/to/log.csv takes your own.
	rm -rf $(DEMO)
	$(BIN)/adaptiverec demo --output $(DEMO) $(if $(LOG),--log $(LOG)) $(DEMO_OPTIONS)

test: $(INSTALLED) ## The tests, some minutes.
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not slow and not flink and not spark"

test-all: $(INSTALLED) ## The tests, the slow ones too.
	$(BIN)/python -m pytest $(IN_PARALLEL) -m "not flink and not spark"

test-flink: $(INSTALLED) ## The job on a Flink cluster over loopback. Needs Java 17, Maven.
	$(BIN)/python -m pytest -m flink tests/pipeline/flink

test-spark: $(INSTALLED) ## The job on Spark in Beam's job server. Needs Java 17, Maven.
	$(BIN)/python -m pytest -m spark tests/pipeline/spark

lint: $(INSTALLED) ## Lint, format and types, without changing anything.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## Formats, and mends what lint can mend.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## The Beam job beside its rivals. BENCH_OPTIONS="--runs 1".
	$(BIN)/python benchmarks/prepare_throughput.py $(BENCH_OPTIONS)

lock: ## Resolves the newest versions that setup.py allows into the lock file.
	$(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/pip install --quiet uv
	$(VENV)-lock/bin/uv pip compile pyproject.toml --extra all --extra dev --upgrade \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	  --generate-hashes --no-header \
	  --output-file requirements.lock

protos: ## Compiles our own messages; the oldest runtime that we accept decides.
	$(PYTHON) -m venv $(VENV)-lock && $(VENV)-lock/bin/pip install --quiet uv
	$(VENV)-lock/bin/uv tool run --from grpcio-tools==1.73.1 --with 'setuptools<81' \
	  python -m grpc_tools.protoc -I typings --python_out=typings --pyi_out=typings \
	  adaptiverec/serving/predict.proto adaptiverec/serving/example.proto \
	  adaptiverec/serving/config_files.proto

dist: $(INSTALLED) ## Builds the sdist and the wheel.
	rm -rf dist
	$(BIN)/python -m build

clean: ## Removes what the other targets made.
	rm -rf $(VENV) $(VENV)-lock $(DEMO) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
