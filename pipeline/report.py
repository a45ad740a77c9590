"""The data report: what happened to the log, on one page.

Rejected rows are text that anybody may have written; what cannot be seen of them is shown
as an escape (see also :mod:`adaptiverec.common.report_page`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from adaptiverec.common import report_text as text
from adaptiverec.common.report_page import render_page
from adaptiverec.pipeline.report_sections import (
    Row,
    activity_section,
    lengths_section,
    popularity_section,
    width_of,
)

__all__ = ["render_report"]

# Of long lists, so many; metadata.json has them all.
_MAX_FILES = 50
_MAX_EXAMPLES = 5
_MAX_REASONS = 50
_MAX_PARTS = 10
_LABELS = {
    "rejected": "Rejected",
    "filtered": "Filtered by a rule",
    "duplicates": "Exact duplicates",
    "repeats": "Repeats of an item",
    "over_max_user_interactions": "Beyond a user's maximum",
    "below_min_interactions": "Of rare users and items",
}
_PARTS = {"rejected": "rejected_by_reason", "filtered": "filtered_by_rule"}
# What has a place of its own in the page; anything else is listed at its end.
_PLACED = {
    "configuration",
    "counts",
    "filtered_by_rule",
    "fingerprint",
    "input_files",
    "num_interactions",
    "num_items",
    "num_test_instances",
    "num_train_instances",
    "num_users",
    "num_users_without_targets",
    "num_validation_instances",
    "producer",
    "rejected",
    "rejected_by_reason",
    "sequence_length",
    "shards",
    "split",
    "time_range",
}


class _Step(NamedTuple):
    """A step of the funnel, which rows leave."""

    label: str
    note: str
    lost: int
    share: str
    left: int
    left_width: float
    lost_width: float
    parts: list[Row]


def render_report(metadata: dict[str, Any], details: dict[str, Any]) -> str:
    """Renders the report of a run.

    The same arguments give the same text, whatever the day, the time zone or the
    user's own settings of matplotlib.

    Args:
        metadata: The content of ``metadata.json``.
        details: What is too fine for it:

            - ``sequence_lengths``: number of users by length;
            - ``activity``: ``bin_seconds``, and interactions by ``bins`` that begin at
              so many times ``bin_seconds`` since 1970-01-01 UTC; or None without times;
            - ``popularity``: int64 array of shape [num_items], interactions of each
              item, descending;
            - ``rejected_examples``: by reason, rows as ``file``, ``offset`` and
              ``row``.

    Returns:
        An HTML page.
    """
    split = metadata["split"]
    return render_page(
        "pipeline/report.html.j2",
        metadata=metadata,
        headline=_headline(metadata),
        funnel=_funnel(metadata),
        targets=_targets(metadata),
        split_values={key: text.value(split[key]) for key in split if key != "method"},
        lengths=lengths_section(metadata, details["sequence_lengths"]),
        popularity=popularity_section(details["popularity"]),
        activity=activity_section(metadata, details["activity"]),
        rejected=_rejected(metadata, details["rejected_examples"]),
        configuration=_flat(metadata["configuration"]),
        more=_flat({key: metadata[key] for key in metadata if key not in _PLACED}),
        max_files=_MAX_FILES,
    )


def _headline(metadata: dict[str, Any]) -> dict[str, Any]:
    users, items = metadata["num_users"], metadata["num_items"]
    interactions = metadata["num_interactions"]
    counts, time_range = metadata["counts"], metadata["time_range"] or {}
    first, last = (text.seconds_of(time_range.get(name)) for name in ("first", "last"))
    sizes = [file["bytes"] for file in metadata["input_files"]]
    return {
        "kept_share": text.percent(counts["kept"], counts["rows_read"]),
        "density": text.percent(interactions, users * items),
        "mean": f"{metadata['sequence_length']['mean']:,.2f}",
        "per_item": f"{interactions / max(1, items):,.2f}",
        "span": None if first is None or last is None else text.in_words(last - first),
        "bytes": text.in_bytes(sum(size for size in sizes if size)),
    }


def _funnel(metadata: dict[str, Any]) -> dict[str, Any]:
    counts = dict(metadata["counts"])
    rows_read, kept = counts.pop("rows_read"), counts.pop("kept")
    steps, left = [], rows_read
    for name, lost in counts.items():
        parts = metadata.get(_PARTS.get(name, ""), {})
        left -= lost
        steps.append(
            _Step(
                _LABELS.get(name, name.replace("_", " ")),
                _note(name, metadata["configuration"]),
                lost,
                text.percent(lost, rows_read),
                left,
                width_of(left, rows_read),
                width_of(lost, rows_read),
                _parts(parts, rows_read),
            )
        )
    parts_add_up = all(
        sum(metadata.get(parts, {}).values()) == counts.get(name, 0)
        for name, parts in _PARTS.items()
        if parts in metadata
    )
    return {
        "rows_read": rows_read,
        "kept": kept,
        "kept_width": width_of(kept, rows_read),
        "kept_share": text.percent(kept, rows_read),
        "steps": steps,
        "sum": " + ".join(f"{number:,}" for number in (*counts.values(), kept)),
        "adds_up": left == kept and parts_add_up,
    }


def _note(name: str, configuration: dict[str, Any]) -> str:
    """What in the options a step of the funnel comes from."""
    options = {
        "repeats": ("repeats",),
        "over_max_user_interactions": ("max_user_interactions",),
        "below_min_interactions": ("min_user_interactions", "min_item_interactions"),
    }.get(name, ())
    given = [(option, configuration.get(option)) for option in options]
    return ", ".join(
        f"{option}={text.value(value)}" for option, value in given if value is not None
    )


def _parts(numbers: Mapping[str, int], whole: int) -> list[Row]:
    """What a step of the funnel is made of, the largest number first."""
    ordered = sorted(numbers.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = [(text.visible(label), number) for label, number in ordered[:_MAX_PARTS]]
    rest = [number for _, number in ordered[_MAX_PARTS:]]
    if rest:
        shown.append((f"{len(rest):,} more", sum(rest)))
    return [
        Row(label, f"{number:,}", text.percent(number, whole), width_of(number, whole))
        for label, number in shown
    ]


def _targets(metadata: dict[str, Any]) -> list[Row]:
    numbers = {
        "training": metadata["num_train_instances"],
        "validation": metadata["num_validation_instances"],
        "test": metadata["num_test_instances"],
    }
    total = sum(numbers.values())
    return [
        Row(name, f"{number:,}", text.percent(number, total), width_of(number, total))
        for name, number in numbers.items()
    ]


def _rejected(
    metadata: dict[str, Any], examples: Mapping[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    by_reason = {**dict.fromkeys(examples, 0), **metadata["rejected_by_reason"]}
    rows_read = metadata["counts"]["rows_read"]
    ordered = sorted(by_reason.items(), key=lambda pair: (-pair[1], pair[0]))
    return [
        {
            "reason": text.visible(reason),
            "rows": number,
            "share": text.percent(number, rows_read),
            "examples": [
                {
                    "file": text.value(example["file"]),
                    "offset": text.value(example["offset"]),
                    "row": text.value(example["row"]),
                }
                for example in examples.get(reason, [])[:_MAX_EXAMPLES]
            ],
        }
        for reason, number in ordered[:_MAX_REASONS]
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values for a table, an inner name after its outer one."""
    rows: list[tuple[str, str]] = []
    for name, given in values.items():
        label = text.visible(f"{prefix}{name}")
        if isinstance(given, Mapping):
            rows += _flat(given, f"{label}.")
        elif isinstance(given, list) and given:
            for number, item in enumerate(given[:_MAX_FILES]):
                rows.append((label if not number else "", text.value(item)))
            if len(given) > _MAX_FILES:
                rows.append(("", f"{len(given) - _MAX_FILES:,} more, in metadata.json"))
        elif given is None or given in ([], ""):
            rows.append((label, "\u2013"))
        else:
            rows.append((label, text.value(given)))
    return rows
