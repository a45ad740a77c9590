"""`adaptiverec export`: from a run to a version that TensorFlow Serving loads."""

from __future__ import annotations

from typing import Any

__all__ = ["export"]


def export(*, run: str, output: str) -> dict[str, Any]:
    """Exports a run's model as the next version under a base path of TensorFlow Serving.

    The SavedModel takes raw item ids and gives raw item ids. Before it is published, by a
    rename, it is loaded in a process of its own and its answers are compared with the
    Keras model's.

    Args:
        run: Directory of a complete run.
        output: The base path; BASE/<next version>/ is made in it.

    Returns:
        `{"path": …, "version": …}` of what was published.

    Raises:
        NotFoundError: There is no such run.
        ContractError: The run is not complete, or was altered.
        OutputError: The base path cannot be written.
        StageError: The reloaded model answers otherwise; nothing is published.
    """
    # TensorFlow takes seconds to import; `--help` and wrong options need not wait for it.
    from pathlib import Path

    from adaptiverec.serving.publish import publish_version

    return publish_version(Path(run), Path(output))
