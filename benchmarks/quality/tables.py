"""What each table of the quality benchmark holds: its data, its rows, their options."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["TABLES", "Job", "Row", "Table", "jobs_of"]


@dataclasses.dataclass(frozen=True)
class Row:
    """A system under some options.

    Attributes:
        name: What the table calls it; unique within the table.
        options: Of `adaptiverec train`, beside those of the table.
        num_seeds: How many runs there are to be, of the seeds 0, 1, …; none of a form of
            the model that is gone, whose results are kept.
    """

    name: str
    options: dict[str, Any]
    num_seeds: int = 1


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows that can be compared: one data set, one protocol.

    Attributes:
        title: Of the table.
        data: Name of the prepared directory.
        options: Of `adaptiverec train`, for all rows.
        rows: The rows.
        against: Rows whose users are paired with those of every other row.
        pairs: Further pairs of rows to compare.
    """

    title: str
    data: str
    options: dict[str, Any]
    rows: tuple[Row, ...]
    against: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Job:
    """One training with its measurements.

    Attributes:
        table: Key of :data:`TABLES`.
        row: Name of the row.
        seed: Of the training.
        options: Of `adaptiverec train`, without the seed.
    """

    table: str
    row: str
    seed: int
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of its files."""
        words = re.findall(r"[a-z0-9.]+", self.row.lower())
        return f"{'-'.join(words)}-seed{self.seed}"


def jobs_of(table: str) -> list[Job]:
    """All jobs of a table: first one seed of every row, then the next of each."""
    found = TABLES[table]
    seeds = range(max(row.num_seeds for row in found.rows))
    return [
        Job(table, row.name, seed, {**found.options, **row.options})
        for seed in seeds
        for row in found.rows
        if seed < row.num_seeds
    ]


def _modes(system: str, objective: str) -> tuple[Row, ...]:
    return tuple(
        Row(f"{system} {views}", {"objective": objective, "views": views})
        for views in ("us", "su", "un")
    )


def _with_changes(
    row: Row,
    changes: dict[str, dict[str, Any]],
    num_seeds: Mapping[str, int] | None = None,
) -> tuple[Row, ...]:
    """The row, and one for each change of it, by what the change is called.

    A change has one seed, but where `num_seeds` names it.
    """
    seeds = num_seeds or {}
    changed = (
        Row(f"{row.name}, {name}", {**row.options, **options}, seeds.get(name, 1))
        for name, options in changes.items()
    )
    return (row, *changed)


def _pairs_with_changes(
    row: str, changes: Iterable[str]
) -> tuple[tuple[str, str], ...]:
    """Each change of the row beside it, by the names that :func:`_with_changes` gives."""
    return tuple((f"{row}, {name}", row) for name in changes)


def _gone(*names: str) -> tuple[Row, ...]:
    return tuple(Row(name, {}, num_seeds=0) for name in names)


_SASREC: dict[str, Any] = {"objective": "none"}
_CL4SREC = {"objective": "info_nce", "views": "augment"}
_DUOREC = {"objective": "info_nce", "views": "us_x"}
_ADAPTIVE = {"objective": "adaptive", "views": "us_x"}
# DuoRec but for the similarity: what is left to compare is the threshold.
_COSINE = {**_DUOREC, "similarity": "cosine"}
# A temperature at which cosines tell near pairs from far ones.
_SHARP = {"temperature": 0.05}
# Thresholds that begin above every pair, and come down to their quantile.
_FROM_ABOVE = {**_ADAPTIVE, **_SHARP, "threshold_start": 1.0}
# BSARec's share for Beauty.
_LOW_PASS = {"low_pass_share": 0.7}
_SMOOTH = {**_SASREC, **_LOW_PASS}
_ALL = {**_FROM_ABOVE, **_LOW_PASS}
# The branch mixed with attention in front of their one norm, with five frequencies.
_ONE_NORM = "SASRec, low-pass .7 (one norm)"
_ONE_NORM_CHANGES = (
    "1 head",
    "128 dimensions",
    "128 dimensions, dropout .6",
    "1 head, batch 256, rate .0005",
)
# Down to nothing at about where a constant rate has its best epoch.
_COSINE_SCHEDULE = {"schedule": "cosine", "warmup_epochs": 5, "epochs": 60}
# As much as its authors took, without a search.
_SMOOTHED_LABELS = {"label_smoothing": 0.1}
_RECIPE = "positions from the end, warm-up and cosine"
_END_AND_COSINE = {"positions_from": "end", **_COSINE_SCHEDULE}
# Every position is a target, so an epoch is one pass over the users.
_SEQUENCES = {"instances": "sequences", "batch_size": 128}
# The authors' settings: batch 1024, dropout .5, Adam 1e-3, patience 10 on NDCG@10.
_POSTER = {"max_length": 50, "batch_size": 1024, "epochs": 100, "patience": 10}
# A quarter of the batch is four times the steps, and learns what it can in fewer epochs.
_SMALL_BATCH_NAME = "128 dimensions, 3 blocks, dropout .3, batch 32, cosine"
_SMALL_BATCH: dict[str, Any] = {
    "hidden_dim": 128,
    "num_blocks": 3,
    "dropout": 0.3,
    "batch_size": 32,
    **_COSINE_SCHEDULE,
    "epochs": 30,
}
_ALL_POSITIONS = f"{_RECIPE}, all positions"
_END_AT_ALL_POSITIONS = {**_END_AND_COSINE, **_SEQUENCES}
_BEST = f"{_ALL_POSITIONS}, label smoothing"
_BRANCH = "SASRec, low-pass .7"
_CONTRAST = "AdaptiveRec, temperature .05, start 1, low-pass .7"
_BRANCH_CHANGES: dict[str, dict[str, Any]] = {
    "warm-up and cosine": _COSINE_SCHEDULE,
    _RECIPE: _END_AND_COSINE,
    _ALL_POSITIONS: _END_AT_ALL_POSITIONS,
    _BEST: {**_END_AT_ALL_POSITIONS, **_SMOOTHED_LABELS},
}
# Beauty's best in a third of its epochs, and what is changed there, one row each: of the
# encoder and its training, and of the adaptive objective.
_ABLATION: dict[str, Any] = {
    **_LOW_PASS,
    "positions_from": "end",
    "schedule": "cosine",
    "warmup_epochs": 2,
    "epochs": 20,
}
_ENCODER_CHANGES: dict[str, dict[str, Any]] = {
    "no low-pass": {"low_pass_share": 0.0},
    "positions from the start": {"positions_from": "start"},
    "constant rate": {"schedule": "constant", "warmup_epochs": 0},
    "all positions": _SEQUENCES,
    "weight decay .01": {"weight_decay": 0.01},
    "unseen": {"next_item_candidates": "unseen"},
    "label smoothing": _SMOOTHED_LABELS,
    "sampled softmax": {"next_item": "sampled_softmax"},
    "gBCE": {"next_item": "gbce"},
}
_OBJECTIVE_CHANGES: dict[str, dict[str, Any]] = {
    "temperature 1": {"temperature": 1.0},
    "start 0": {"threshold_start": 0.0},
    "quantile .99": {"threshold_quantile": 0.99},
    "mean": {"threshold_target": "mean"},
    "median": {"threshold_target": "median"},
    "soft": {"assignment": "soft"},
    "soft, denominator over all": {"assignment": "soft", "denominator": "all"},
    "weights inside": {"pair_weights": "inside"},
    "denominator over all": {"denominator": "all"},
}
_LESS_DROPOUT: dict[str, dict[str, Any]] = {"dropout .2": {"dropout": 0.2}}

TABLES = {
    "beauty-poster": Table(
        title="Amazon Beauty, the poster's protocol",
        data="beauty",
        options=_POSTER,
        rows=(
            Row("SASRec", _SASREC, num_seeds=5),
            Row("DuoRec us_x", _DUOREC, num_seeds=5),
            Row("AdaptiveRec us_x", _ADAPTIVE, num_seeds=5),
            Row("CL4SRec", _CL4SREC),
            *_modes("DuoRec", "info_nce"),
            *_modes("AdaptiveRec", "adaptive"),
            Row("AdaptiveRec us_x, temperature .05", {**_ADAPTIVE, **_SHARP}),
            Row("AdaptiveRec us_x, temperature .05, start 1", _FROM_ABOVE),
            Row("InfoNCE us_x, cosine, temperature .05", {**_COSINE, **_SHARP}),
            # The low-pass branch, without and with the contrast.
            Row(_BRANCH, _SMOOTH, num_seeds=5),
            Row(
                "AdaptiveRec us_x, temperature .05, start 1, low-pass .7",
                _ALL,
                num_seeds=5,
            ),
            *_gone(
                _ONE_NORM,
                "AdaptiveRec us_x, temperature .05, start 1, low-pass .7 (one norm)",
            ),
        ),
        against=("SASRec", "DuoRec us_x"),
        pairs=(
            # What the threshold does, and what the contrast does beside the branch.
            (
                "AdaptiveRec us_x, temperature .05",
                "InfoNCE us_x, cosine, temperature .05",
            ),
            (
                "AdaptiveRec us_x, temperature .05, start 1, low-pass .7",
                _BRANCH,
            ),
            (
                "AdaptiveRec us_x, temperature .05, start 1, low-pass .7 (one norm)",
                _ONE_NORM,
            ),
        ),
    ),
    "beauty-best": Table(
        title="Amazon Beauty, our best with seen items removed",
        data="beauty",
        options={**_POSTER, "exclude_seen": True, "epochs": 200, "patience": 20},
        rows=(
            Row("SASRec", _SASREC),
            *_with_changes(
                Row(_BRANCH, _SMOOTH),
                _BRANCH_CHANGES,
                num_seeds={_RECIPE: 3, _BEST: 3},
            ),
            Row(f"{_CONTRAST}, {_RECIPE}", {**_ALL, **_END_AND_COSINE}),
            *_gone(
                f"{_BRANCH}, {_RECIPE}, L2",
                _ONE_NORM,
                *(f"{_ONE_NORM}, {name}" for name in _ONE_NORM_CHANGES),
            ),
        ),
        against=("SASRec",),
        pairs=(
            *_pairs_with_changes(_BRANCH, _BRANCH_CHANGES),
            *_pairs_with_changes(_ONE_NORM, _ONE_NORM_CHANGES),
            (f"{_BRANCH}, {_RECIPE}", f"{_BRANCH}, warm-up and cosine"),
            (f"{_BRANCH}, {_ALL_POSITIONS}", f"{_BRANCH}, {_RECIPE}"),
            (f"{_BRANCH}, {_BEST}", f"{_BRANCH}, {_RECIPE}"),
            *_pairs_with_changes(f"{_BRANCH}, {_RECIPE}", ["L2"]),
            (f"{_BRANCH}, {_BEST}", f"{_BRANCH}, {_ALL_POSITIONS}"),
            # What the contrast does beside all that.
            (f"{_CONTRAST}, {_RECIPE}", f"{_BRANCH}, {_RECIPE}"),
        ),
    ),
    "beauty-ablations": Table(
        title="Amazon Beauty, one option at a time: seen items removed, 20 epochs",
        data="beauty",
        options={**_POSTER, "exclude_seen": True, **_ABLATION},
        rows=(
            *_with_changes(Row("SASRec", _SASREC), _ENCODER_CHANGES),
            Row("DuoRec us_x", _DUOREC),
            *_with_changes(Row("AdaptiveRec us_x", _FROM_ABOVE), _OBJECTIVE_CHANGES),
            *_gone("SASRec, L2"),
        ),
        pairs=(
            *_pairs_with_changes("SASRec", [*_ENCODER_CHANGES, "L2"]),
            ("DuoRec us_x", "SASRec"),
            ("AdaptiveRec us_x", "SASRec"),
            *_pairs_with_changes("AdaptiveRec us_x", _OBJECTIVE_CHANGES),
        ),
    ),
    "ml-1m-best": Table(
        title="MovieLens 1M, our best with seen items removed: length 200, all positions",
        data="ml-1m",
        options={
            **_SEQUENCES,
            "max_length": 200,
            "exclude_seen": True,
            "dropout": 0.2,
            "weight_decay": 0.01,
            "epochs": 200,
            "patience": 20,
        },
        rows=(
            *_with_changes(
                Row("SASRec", _SASREC),
                {
                    "128 dimensions": {"hidden_dim": 128},
                    "256 dimensions": {"hidden_dim": 256},
                    "128 dimensions, dropout .3": {"hidden_dim": 128, "dropout": 0.3},
                    f"128 dimensions, dropout .3, {_RECIPE}": {
                        "hidden_dim": 128,
                        "dropout": 0.3,
                        **_END_AND_COSINE,
                    },
                    "128 dimensions, 3 blocks": {"hidden_dim": 128, "num_blocks": 3},
                    f"128 dimensions, 3 blocks, dropout .3, {_RECIPE}": {
                        "hidden_dim": 128,
                        "num_blocks": 3,
                        "dropout": 0.3,
                        **_END_AND_COSINE,
                    },
                    _SMALL_BATCH_NAME: _SMALL_BATCH,
                    f"{_SMALL_BATCH_NAME}, unseen": {
                        **_SMALL_BATCH,
                        "next_item_candidates": "unseen",
                    },
                    "length 50": {"max_length": 50},
                },
                num_seeds={f"{_SMALL_BATCH_NAME}, unseen": 3},
            ),
            Row("AdaptiveRec us_x", _ADAPTIVE),
            Row("AdaptiveRec us_x, temperature .05, start 1", _FROM_ABOVE),
            *_gone("SASRec, low-pass .3 (one norm)", "SASRec, pre-norm"),
        ),
        against=("SASRec",),
        pairs=(
            *_pairs_with_changes("SASRec, 128 dimensions, dropout .3", [_RECIPE]),
            *_pairs_with_changes(f"SASRec, {_SMALL_BATCH_NAME}", ["unseen"]),
            # The best, and what was best before.
            (
                f"SASRec, {_SMALL_BATCH_NAME}, unseen",
                f"SASRec, 128 dimensions, 3 blocks, dropout .3, {_RECIPE}",
            ),
        ),
    ),
    "ml-1m-poster": Table(
        title="MovieLens 1M, the poster's protocol",
        data="ml-1m",
        options=_POSTER,
        rows=(
            *_with_changes(Row("SASRec", _SASREC), _LESS_DROPOUT),
            *_with_changes(Row("AdaptiveRec us_x", _ADAPTIVE), _LESS_DROPOUT),
        ),
        against=("SASRec",),
    ),
}
