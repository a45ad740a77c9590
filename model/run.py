"""The contract of a run directory: what a training leaves behind.

::

    RUN/
      run.json          schema version, status, configuration, the data it saw, the best epoch
      config.yaml       the configuration, as `adaptiverec train --config` takes it
      model.keras       the best epoch's model
      vocabulary.txt    raw item ids; line n is the dense id n
      popularity.npy    int64 [num_items]: interactions of each item in the training part
      history.json      every epoch's metrics
      evaluation.json   results of `adaptiverec evaluate`
      checkpoints/      the last epoch's state, to resume from, and the best model so far
      diagnostics/      a few figures of every epoch, for the report
      report.html       the page of `adaptiverec report`
      tensorboard/      event files

A run is there before its first epoch, since it can be resumed; `run.json` says
`"complete"` only when `model.keras` is in place.
"""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptiverec.common.errors import ContractError, NotFoundError
from adaptiverec.common.files import is_remote, read_json, sha256_of_bytes, write_json

if TYPE_CHECKING:
    import keras
    import numpy as np

    from adaptiverec.model.prepared_data import PreparedData

__all__ = ["CHECKPOINTS", "MODEL", "MONITOR", "SCHEMA_VERSION", "Run", "system_name"]

# Raised whenever a reader of the last version would misread this one.
SCHEMA_VERSION = 1

RECORD = "run.json"
CONFIGURATION = "config.yaml"
MODEL = "model.keras"
VOCABULARY = "vocabulary.txt"
POPULARITY = "popularity.npy"
HISTORY = "history.json"
EVALUATION = "evaluation.json"
CHECKPOINTS = "checkpoints"
DIAGNOSTICS = "diagnostics"
REPORT = "report.html"
TENSORBOARD = "tensorboard"

# What epochs are compared by.
MONITOR = "val_ndcg@10"


def system_name(objective: str, views: str | None) -> str:
    """What the field calls the system of an objective and its views."""
    if objective == "info_nce":
        return "CL4SRec" if views == "augment" else "DuoRec"
    return {"adaptive": "AdaptiveRec", "none": "SASRec"}[objective]


@dataclasses.dataclass
class Run:
    """A run directory.

    Attributes:
        path: The directory.
        record: The content of `run.json`.
    """

    path: Path
    record: dict[str, Any]

    @classmethod
    def create(
        cls,
        path: Path,
        configuration: dict[str, Any],
        data: PreparedData,
        popularity: np.ndarray,
    ) -> Run:
        """Starts the record of a new run in an existing directory.

        Args:
            path: The directory.
            configuration: The arguments of the training.
            data: What it is trained on.
            popularity: How often each item occurs in the training part, `[num_items]`.

        Returns:
            The run.
        """
        # To be found from any other directory.
        location = data.path if is_remote(data.path) else str(Path(data.path).resolve())
        record = {
            "schema_version": SCHEMA_VERSION,
            "producer": f"adaptiverec {version('adaptiverec')}",
            "status": "training",
            "configuration": configuration,
            "data": {
                "path": location,
                "fingerprint": data.fingerprint,
                "vocabulary_sha256": data.metadata["vocabulary"]["sha256"],
                "num_items": data.num_items,
                "split": data.metadata["split"],
                "id_normalization": data.metadata["id_normalization"],
            },
        }
        run = cls(path, record)
        text = "".join(f"{item}\n" for item in data.vocabulary)
        (path / VOCABULARY).write_bytes(text.encode("utf-8"))
        # The contract is read where no library is installed.
        import numpy as np

        np.save(path / POPULARITY, popularity.astype(np.int64), allow_pickle=False)
        run.save()
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Reads the record of a run, complete or not.

        Raises:
            NotFoundError: There is no run.
            ContractError: It is of another schema version.
        """
        path = Path(path)
        if not (path / RECORD).is_file():
            raise NotFoundError(
                "The run must be a directory made by `adaptiverec train`, with a "
                f"{RECORD}. Received: {path}, which has none"
            )
        try:
            record = read_json(path / RECORD)
        except ValueError as error:
            raise ContractError(
                f"{RECORD} must be JSON. Received: {path / RECORD} ({error})"
            ) from error
        found = record.get("schema_version") if isinstance(record, dict) else None
        if found != SCHEMA_VERSION:
            raise ContractError(
                f"The run must have schema_version {SCHEMA_VERSION}; train again with "
                f"this release. Received: {found!r} in {path / RECORD}"
            )
        return cls(path, record)

    @classmethod
    def open_complete(cls, path: str | Path) -> Run:
        """Reads the record of a run that has come to its end.

        Raises:
            ContractError: Also if its training has not ended.
        """
        run = cls.open(path)
        if run.record["status"] != "complete" or not (run.path / MODEL).is_file():
            raise ContractError(
                "The run must be complete; go on with `adaptiverec train --resume`. "
                f"Received: {path}, whose status is {run.record['status']!r}"
            )
        return run

    def save(self) -> None:
        """Writes `run.json`."""
        write_json(self.path / RECORD, self.record)

    @property
    def configuration(self) -> dict[str, Any]:
        """The arguments of the training."""
        return self.record["configuration"]

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of `model.keras`."""
        return sha256_of_bytes((self.path / MODEL).read_bytes())

    @property
    def id_normalization(self) -> dict[str, bool]:
        """How raw ids were changed before they were counted: `trim` and `lowercase`."""
        return self.record["data"]["id_normalization"]

    def vocabulary(self) -> list[str]:
        """Raw item ids; element i has the dense id i + 1.

        Raises:
            ContractError: The file is not the one that the model was trained with.
        """
        text = (self.path / VOCABULARY).read_bytes()
        if sha256_of_bytes(text) != self.record["data"]["vocabulary_sha256"]:
            raise ContractError(
                "The run's vocabulary must be the one of its training (by its SHA-256). "
                f"Received: another one in {self.path / VOCABULARY}"
            )
        return text.decode("utf-8").split("\n")[:-1]

    def popularity(self) -> np.ndarray:
        """How often each item occurs in the training part; element i has dense id i + 1.

        Returns:
            Int64 `[num_items]`.

        Raises:
            ContractError: The file is missing, or not of this run's items.
        """
        import numpy as np

        expected = self.record["data"]["num_items"]
        try:
            popularity = np.load(self.path / POPULARITY, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ContractError(
                f"The run must hold {POPULARITY}; train again with this release. "
                f"Received: {self.path / POPULARITY} ({error})"
            ) from error
        if popularity.dtype != np.int64 or popularity.shape != (expected,):
            raise ContractError(
                f"{POPULARITY} must be int64 of shape [{expected}]. Received: "
                f"{popularity.dtype} {list(popularity.shape)} in {self.path / POPULARITY}"
            )
        return popularity

    def check_data(self, data: PreparedData) -> None:
        """Raises :class:`ContractError` unless `data` is what the run was trained on."""
        expected = self.record["data"]["fingerprint"]
        if data.fingerprint != expected:
            raise ContractError(
                "The prepared data must be what the run was trained on, by its "
                f"fingerprint {expected[:12]}…. Received: {data.path} with fingerprint "
                f"{data.fingerprint[:12]}…"
            )

    def load_model(self, path: Path | None = None) -> keras.Model:
        """Loads `model.keras`, or the file of another epoch's model."""
        import keras

        # Registers the classes that the file names.
        import adaptiverec.model.adaptive_rec  # noqa: F401

        return keras.saving.load_model(path or self.path / MODEL)
