"""What runs a loaded graph: tensors in by name, tensors out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from tensorflow.core.protobuf import meta_graph_pb2

__all__ = ["LoopRunner", "Runner", "RunnerWrapper"]


class Runner(Protocol):
    """A loaded graph. Thread-safe.

    The one below all others is a TensorFlow session. Another may stand before it, such as
    one that gathers concurrent calls into a batch.
    """

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Runs the graph once.

        Args:
            feeds: The value of each tensor that is fed, by the tensor's name in the graph
                (``serving_default_history:0``); strings as ``object`` arrays of ``bytes``.
            fetches: Names of the tensors wanted.
            timeout: Seconds that the caller will still wait, or None for ever.

        Returns:
            The values of ``fetches``, in order.

        Raises:
            RequestError: With the code and message of the op that failed.
        """

    def close(self) -> None:
        """Frees what it holds. No call is running."""


@runtime_checkable
class LoopRunner(Runner, Protocol):
    """A runner that coroutines can wait for, without a thread for each request."""

    async def run_in_loop(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """Runs the graph once; see :meth:`Runner.run`."""


# Puts a runner of one's own before a version's: given that runner, the version's
# signatures, by name, and its SavedModel directory. Raises RequestError where the
# version must not be served so.
RunnerWrapper = Callable[
    [Runner, Mapping[str, meta_graph_pb2.SignatureDef], Path], Runner
]
