"""`adaptiverec export`: from a run to a version that TensorFlow Serving loads."""

from __future__ import annotations

from typing import Any, Literal

__all__ = ["export"]


def export(
    *,
    run: str,
    output: str,
    data: str | None = None,
    retrieval: Literal["exact", "brute_force", "streaming", "scann"] = "exact",
    parity_users: int = 1000,
) -> dict[str, Any]:
    """Exports a run's model as the next version under a base path of TensorFlow Serving.

    The SavedModel takes raw item ids and gives raw item ids. Before it is published, by a
    rename, it is loaded in a process of its own, users are replayed through it, and their
    best items are compared with those of the offline evaluation; assets.extra/parity.json
    tells of it.

    Args:
        run: Directory of a complete run.
        output: The base path; BASE/<next version>/ is made in it.
        data: The prepared directory of the run: users with test targets are replayed then,
            and made-up histories otherwise.
        retrieval: What looks through the catalogue: exact, the fastest and leanest, or a
            layer of TensorFlow Recommenders (brute_force, streaming, scann). scann is
            approximate, and the stock tensorflow/serving cannot load it.
        parity_users: How many users to replay.

    Returns:
        `{"path": …, "version": …}` of what was published.

    Raises:
        InvalidValueError: An argument is outside its rule.
        NotFoundError: There is no such run or data, or a package is missing.
        ContractError: The run is not complete, or was altered, or is of other data.
        OutputError: The base path cannot be written.
        StageError: The reloaded model answers otherwise; nothing is published.
    """
    # TensorFlow takes seconds to import; `--help` and wrong options need not wait for it.
    from pathlib import Path

    from adaptiverec.common.checks import check_at_least
    from adaptiverec.serving.publish import publish_version

    check_at_least("parity_users", parity_users, 1)
    return publish_version(
        Path(run),
        Path(output),
        data=data,
        retrieval=retrieval,
        parity_users=parity_users,
    )
