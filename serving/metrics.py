"""What a server counts, under TensorFlow Serving's names, in Prometheus' text format.

Those names have no ``_total`` on counters, which prometheus_client cannot leave out, so the
few lines that count and write are our own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import grpc

from adaptiverec.serving.batching import BatchObserver
from adaptiverec.serving.config_files import read_config_file
from adaptiverec.serving.config_files_pb2 import MonitoringConfig
from adaptiverec.serving.metrics_registry import Counter, Histogram, exponential
from adaptiverec.serving.observer import Observer

__all__ = ["LoadsOnly", "Metrics", "read_metrics_path"]

_DEFAULT_PATH = "/monitoring/prometheus/metrics"

# Microseconds: 10 to about 20 minutes.
_LATENCY = exponential(10, 1.8, 33)
_SIZES = exponential(1, 2, 14)
_EXAMPLES = exponential(1, 2, 15)

# What Prometheus' names have for TensorFlow's slashes.
_NO_LETTER = re.compile(r"[^a-zA-Z0-9_]")

# The requests that tensorflow_model_server counts.
_COUNTED = {"Predict", "Classify", "Regress"}


def read_metrics_path(monitoring_config_file: str | os.PathLike[str]) -> str | None:
    """Reads where the metrics are to be had on the REST port.

    Args:
        monitoring_config_file: A text proto of MonitoringConfig.

    Returns:
        The path, or None where Prometheus is not enabled.

    Raises:
        NotFoundError: There is no such file.
        InvalidValueError: It is no such proto.
    """
    config = read_config_file(
        monitoring_config_file, MonitoringConfig(), flag="monitoring_config_file"
    ).prometheus_config
    return (config.path or _DEFAULT_PATH) if config.enable else None


class Metrics(Observer, BatchObserver):
    """Counts requests, loads and batches. Thread-safe.

    As in tensorflow_model_server, the latency of a request is noted only if it went well,
    and the API is called ``Predict`` over gRPC and ``predict`` over REST.
    """

    def __init__(self) -> None:
        self._request_count = Counter(
            ":tensorflow:serving:request_count", "model_name", "status"
        )
        self._request_latency = Histogram(
            ":tensorflow:serving:request_latency",
            _LATENCY,
            "model_name",
            "API",
            "entrypoint",
        )
        self._runtime_latency = Histogram(
            ":tensorflow:serving:runtime_latency",
            _LATENCY,
            "model_name",
            "API",
            "runtime",
        )
        self._example_counts = Histogram(
            ":tensorflow:serving:request_example_counts", _EXAMPLES, "model"
        )
        self._example_count_total = Counter(
            ":tensorflow:serving:request_example_count_total", "model"
        )
        self._load_attempt_count = Counter(
            ":tensorflow:cc:saved_model:load_attempt_count", "model_path", "status"
        )
        self._load_latency = Counter(
            ":tensorflow:cc:saved_model:load_latency", "model_path"
        )
        self._warmup_latency = Histogram(
            ":tensorflow:serving:model_warmup_latency", _LATENCY, "model_path", "status"
        )
        batching = ":tensorflow:serving:batching_session"
        self._queuing_latency = Histogram(
            # 100 microseconds to about a second.
            f"{batching}:queuing_latency",
            exponential(100, 1.2, 52),
            "thread_pool_name",
        )
        self._input_batch_size = Histogram(f"{batching}:input_batch_size", _SIZES)
        self._processed_batch_size = Histogram(
            f"{batching}:processed_batch_size", _SIZES
        )
        self._padding_size = Histogram(
            f"{batching}:padding_size", _SIZES, "execution_batch_size"
        )
        self._wrapped_run_count = Counter(f"{batching}:wrapped_run_count")
        self._all = [
            value
            for value in vars(self).values()
            if isinstance(value, Counter | Histogram)
        ]
        self._all.sort(key=lambda metric: metric.name)

    def request(
        self,
        model: str,
        api: str,
        entrypoint: str,
        code: grpc.StatusCode,
        seconds: float,
    ) -> None:
        """Counts an answer; see :class:`Observer`."""
        if api not in _COUNTED:
            return
        self._request_count.add(1, model, code.name)
        if code is grpc.StatusCode.OK:
            name = api.lower() if entrypoint == "REST" else api
            self._request_latency.add(seconds * 1e6, model, name, entrypoint)

    def runtime(self, model: str, api: str, seconds: float) -> None:
        """Notes the run of a graph; see :class:`Observer`."""
        self._runtime_latency.add(seconds * 1e6, model, api, "TF1")

    def examples(self, model: str, api: str, count: int) -> None:
        """Counts examples; see :class:`Observer`."""
        self._example_counts.add(count, model)
        self._example_count_total.add(count, model)

    def load(self, path: str, code: grpc.StatusCode, seconds: float) -> None:
        """Counts a try to load a version; see :class:`Observer`."""
        success = code is grpc.StatusCode.OK
        self._load_attempt_count.add(1, path, "success" if success else "fail")
        if success:
            self._load_latency.add(seconds * 1e6, path)

    def warmup(self, path: str, code: grpc.StatusCode, seconds: float) -> None:
        """Notes a warm-up; see :class:`Observer`."""
        self._warmup_latency.add(seconds * 1e6, path, code.name)

    def batch_input(self, rows: int, tensors: int) -> None:
        """Notes a request to batch, once for each tensor; see :class:`BatchObserver`."""
        self._input_batch_size.add(rows, times=tensors)

    def batch(self, seconds_waited: Sequence[float], padding: int, rows: int) -> None:
        """Notes a batch; see :class:`BatchObserver`."""
        for seconds in seconds_waited:
            # tensorflow_model_server gives its batching session no name of a pool.
            self._queuing_latency.add(seconds * 1e6, "")
        self._processed_batch_size.add(rows)
        self._padding_size.add(padding, str(rows))
        self._wrapped_run_count.add(1)

    def value(self, name: str) -> int:
        """What a reload of the configuration tells of a metric, before and after.

        Args:
            name: TensorFlow's name of it, such as ``/tensorflow/serving/request_count``.

        Returns:
            As in tensorflow_model_server, the first number of a counter, in the order of
            its labels; 0 for whatever is none.
        """
        wanted = _NO_LETTER.sub(":", name)
        for metric in self._all:
            if isinstance(metric, Counter) and metric.name == wanted:
                return metric.first()
        return 0

    def page(self) -> str:
        """All metrics in Prometheus' text format, version 0.0.4."""
        lines = [line for metric in self._all for line in metric.lines()]
        return "\n".join(lines) + "\n"


class LoadsOnly(Observer):
    """Passes on what is told of loading alone.

    For a server whose metrics nobody reads: requests need not pay for them, and what a
    reload tells is there.

    Args:
        metrics: Who counts.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def load(self, path: str, code: grpc.StatusCode, seconds: float) -> None:
        """Counts a try to load a version; see :class:`Observer`."""
        self._metrics.load(path, code, seconds)
