"""What `adaptiverec tune` does: KerasTuner chooses options, `train` makes runs of them."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import yaml

from adaptiverec.common.checks import check_at_least, check_choice
from adaptiverec.common.errors import (
    ContractError,
    InvalidValueError,
    NotFoundError,
    OutputExistsError,
    StageError,
)
from adaptiverec.common.files import (
    check_output_is_free,
    read_json,
    staged_directory,
    write_json,
    write_text,
)
from adaptiverec.common.progress import say
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.run import MONITOR, RECORD, Run
from adaptiverec.model.search_space import Choices, SearchSpace
from adaptiverec.model.train import train

__all__ = ["METHODS", "run_search"]

METHODS = ("bayesian", "random", "grid")
# Of the output directory.
_SEARCH = "search.json"
_TRIALS = "trials.json"
_BEST = "best.yaml"
_RUNS = "trials"
_TUNER = "tuner"
_SCHEMA_VERSION = 1


def run_search(
    *,
    data: str,
    ranges: Path,
    output: Path,
    trials: int,
    method: str,
    seed: int,
    resume: bool,
) -> dict[str, Any]:
    """Searches; see :func:`adaptiverec.model.tune.tune`."""
    check_at_least("trials", trials, 1)
    check_at_least("seed", seed, 0)
    check_choice("method", method, METHODS)
    space = SearchSpace.read(ranges)
    prepared = PreparedData.open(data)
    if not prepared.metadata["num_validation_instances"]:
        raise InvalidValueError(
            "Tuning needs validation targets; prepare the log with --split leave-one-out "
            f"or time. Received: {data}, split {prepared.metadata['split']['method']!r}"
        )
    search = {
        "schema_version": _SCHEMA_VERSION,
        "data_fingerprint": prepared.fingerprint,
        "method": method,
        "seed": seed,
        **space.as_json(),
    }
    if resume:
        _check_same(output, search)
    else:
        if (output / _SEARCH).is_file():
            raise OutputExistsError(
                "The output must not exist yet, since nothing is ever overwritten; a "
                f"search that was stopped goes on with --resume. Received: {output}"
            )
        check_output_is_free(output)
        with staged_directory(output) as staging:
            (staging / _RUNS).mkdir()
            write_json(staging / _SEARCH, search)
    tuner = _tuner(space, output, data, trials, method, seed)
    try:
        tuner.search(verbose=0)
    except _Stopped as stopped:
        raise stopped.error from None
    return _finish(tuner, space, output)


def _check_same(output: Path, search: dict[str, Any]) -> None:
    path = output / _SEARCH
    if not path.is_file():
        raise NotFoundError(
            "The search to resume must be a directory made by `adaptiverec tune`, with a "
            f"{_SEARCH}. Received: {output}, which has none"
        )
    before = read_json(path)
    changed = [name for name in search if search[name] != before.get(name)]
    if changed:
        raise ContractError(
            "A resumed search must have the data, ranges, method and seed it began with. "
            f"Received: another {', '.join(changed)} than in {path}"
        )


def _tuner(
    space: SearchSpace, output: Path, data: str, trials: int, method: str, seed: int
) -> _Tuner:
    parameters = keras_tuner.HyperParameters()
    for name, what in space.searched.items():
        if isinstance(what, Choices):
            parameters.Choice(name, list(what.values), ordered=False)
        elif what.step is not None:
            # KerasTuner's own steps lose the last one to rounding.
            parameters.Choice(name, list(what.values()), ordered=True)
        elif what.whole:
            parameters.Int(name, int(what.low), int(what.high), sampling=what.sampling)
        else:
            parameters.Float(name, what.low, what.high, sampling=what.sampling)
    oracles = {
        "bayesian": keras_tuner.oracles.BayesianOptimizationOracle,
        "random": keras_tuner.oracles.RandomSearchOracle,
        "grid": keras_tuner.oracles.GridSearchOracle,
    }
    oracle = oracles[method](
        objective=keras_tuner.Objective(MONITOR, "max"),
        max_trials=trials,
        hyperparameters=parameters,
        allow_new_entries=False,
        tune_new_entries=False,
        # It takes 0 for none.
        seed=seed + 1,
        # It would give up after some failures in a row, and what was found with it.
        max_consecutive_failed_trials=trials + 1,
    )
    # It says on standard output what is no result.
    with contextlib.redirect_stdout(sys.stderr):
        tuner = _Tuner(
            oracle,
            directory=str(output),
            project_name=_TUNER,
            data=data,
            space=space,
            runs=output / _RUNS,
        )
    # A search that is killed in its first trial is to be resumed, too.
    tuner.save()
    return tuner


class _Stopped(keras_tuner.errors.FatalError):
    """What no other choice of options would mend; KerasTuner lets it pass."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Tuner(keras_tuner.engine.base_tuner.BaseTuner):
    """Makes a run of every trial.

    Args:
        oracle: What chooses.
        data: A prepared directory.
        space: Options that every run has, and those that are searched.
        runs: Where the runs are made.
        **kwargs: Of KerasTuner's `BaseTuner`.
    """

    def __init__(
        self,
        oracle: Any,
        *,
        data: str,
        space: SearchSpace,
        runs: Path,
        **kwargs: Any,
    ) -> None:
        self._data = data
        self._space = space
        self._runs = runs
        super().__init__(oracle, **kwargs)

    def run_path(self, trial: Any) -> Path:
        """Where a trial's run is."""
        return self._runs / f"{_number_of(trial):04d}"

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Trains, or goes on with a run that was cut off."""
        values = self._space.restored(trial.hyperparameters.values)
        shown = ", ".join(f"{name}={value}" for name, value in values.items())
        say(f"Trial {_number_of(trial)}: {shown}")
        path = self.run_path(trial)
        try:
            record = train(
                data=self._data,
                output=str(path),
                resume=(path / RECORD).is_file(),
                **{**self._space.given, **values},
            )
        except (InvalidValueError, StageError) as error:
            # These options do not go together, or diverge; others may.
            say(f"Trial {_number_of(trial)} failed: {error}")
            raise keras_tuner.errors.FailedTrialError(str(error)) from error
        except Exception as error:
            raise _Stopped(error) from error
        finally:
            # Each trial has graphs of its own.
            keras.backend.clear_session()
        return {MONITOR: record["best"][MONITOR]}


def _number_of(trial: Any) -> int:
    return int(trial.trial_id) + 1


def _finish(tuner: _Tuner, space: SearchSpace, output: Path) -> dict[str, Any]:
    """Writes the table of trials and the best one's configuration."""
    rows: list[dict[str, Any]] = []
    for trial in sorted(tuner.oracle.trials.values(), key=_number_of):
        path = tuner.run_path(trial)
        complete = trial.status == "COMPLETED"
        record = Run.open_complete(path).record if complete else {}
        rows.append(
            {
                "trial": _number_of(trial),
                "status": "complete" if complete else "failed",
                "values": space.restored(trial.hyperparameters.values),
                "ndcg@10": record["best"][MONITOR] if complete else None,
                "best_epoch": record.get("best_epoch"),
                "epochs": record.get("epochs"),
                "run": f"{_RUNS}/{path.name}",
                "message": "" if complete else _reason(trial.message or ""),
            }
        )
    finished = [row for row in rows if row["ndcg@10"] is not None]
    best = max(finished, key=lambda row: row["ndcg@10"])["trial"] if finished else None
    result = {
        "schema_version": _SCHEMA_VERSION,
        "measure": "NDCG@10 of the validation targets in the best epoch",
        "searched": list(space.searched),
        "best": best,
        "trials": rows,
    }
    write_json(output / _TRIALS, result)
    if best is None:
        raise StageError(
            "At least one trial must come to its end; narrow the ranges. Received: "
            f"{len(rows)} that failed, see {output / _TRIALS}"
        )
    configuration = Run.open(output / _RUNS / f"{best:04d}").configuration
    write_text(output / _BEST, yaml.safe_dump(configuration, sort_keys=False))
    say(f"Best: trial {best}, written to {output / _BEST}")
    return result


def _reason(message: str) -> str:
    """The last line of a traceback, which is the error."""
    lines = [line for line in message.splitlines() if line.strip()]
    return lines[-1].rpartition("Error: ")[2] if lines else ""
