"""What happens in the server, told to whoever counts it."""

from __future__ import annotations

import grpc

__all__ = ["Observer"]


class Observer:
    """Told of requests and of versions; this one listens to nothing.

    The methods are called from many threads at once, must be quick and must not raise.
    """

    def request(
        self,
        model: str,
        api: str,
        entrypoint: str,
        code: grpc.StatusCode,
        seconds: float,
    ) -> None:
        """A request has been answered.

        Args:
            model: The model that the request names, whether or not there is such a one.
            api: ``"Predict"``, ``"Classify"``, ``"Regress"``, ``"MultiInference"`` or
                ``"GetModelMetadata"``.
            entrypoint: ``"GRPC"`` or ``"REST"``.
            code: How it ended.
            seconds: How long it took.
        """

    def runtime(self, model: str, api: str, seconds: float) -> None:
        """A graph has run for a request, batching included."""

    def examples(self, model: str, api: str, count: int) -> None:
        """A Classify, Regress or MultiInference request has so many examples."""

    def load(self, path: str, code: grpc.StatusCode, seconds: float) -> None:
        """A SavedModel was loaded, or not; once for each try, warm-up not included."""

    def warmup(self, path: str, code: grpc.StatusCode, seconds: float) -> None:
        """The warm-up requests of a SavedModel have run, or one has failed."""
