"""How requests are gathered into batches, as in TensorFlow Serving's BatchingParameters."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.serving.config_files import read_config_file
from adaptiverec.serving.config_files_pb2 import BatchingParameters

__all__ = ["BatchingOptions", "read_batching_options"]


@dataclass(frozen=True)
class BatchingOptions:
    """What decides when a batch is made, and of what. Defaults are TensorFlow Serving's.

    Attributes:
        max_batch_size: The most rows of one request; and of one batch, unless large
            requests are split.
        batch_timeout_micros: How long the first request of a batch waits for others,
            when a thread is free and the batch is not full. 0 does not wait: what has
            come while all threads were busy makes a batch.
        max_enqueued_batches: How many batches of one signature may wait, the one that
            is being filled included.
        num_batch_threads: How many batches run at once, over all models.
        thread_pool_name: The name of the threads.
        allowed_batch_sizes: Rows of a batch, in increasing order; a batch is filled up
            to the next one with copies of a row. Empty allows all.
        pad_variable_length_inputs: Whether tensors of different shapes are padded to
            the largest, each with its own first value, or refused.
        enable_large_batch_splitting: Whether a request may be split over batches.
        max_execution_batch_size: The most rows of a batch then.

    Raises:
        InvalidValueError: A value is outside its rule.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = 1
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 1000

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "num_batch_threads", "max_execution_batch_size"):
            if getattr(self, name) < 1:
                raise InvalidValueError(
                    f"{name} must be positive. Received: {name}={getattr(self, name)}"
                )
        for name in ("batch_timeout_micros", "max_enqueued_batches"):
            if getattr(self, name) < 0:
                raise InvalidValueError(
                    f"{name} must be non-negative. Received: {name}={getattr(self, name)}"
                )
        splits = self.enable_large_batch_splitting
        if splits and self.max_enqueued_batches == 0:
            raise InvalidValueError(
                "max_enqueued_batches must be positive with enable_large_batch_splitting."
                " Received: max_enqueued_batches=0"
            )
        if splits and self.max_execution_batch_size > self.max_batch_size:
            raise InvalidValueError(
                "max_execution_batch_size must not be above max_batch_size. Received: "
                f"max_execution_batch_size={self.max_execution_batch_size}, "
                f"max_batch_size={self.max_batch_size}"
            )
        self._check_allowed_batch_sizes()

    def _check_allowed_batch_sizes(self) -> None:
        sizes = self.allowed_batch_sizes
        if not sizes:
            return
        if sizes[0] < 1 or any(a >= b for a, b in pairwise(sizes)):
            raise InvalidValueError(
                "allowed_batch_sizes must be positive and increasing. Received: "
                f"allowed_batch_sizes={list(sizes)}"
            )
        if sizes[-1] != self.max_batch_size:
            raise InvalidValueError(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry "
                f"was {sizes[-1]}; expected {self.max_batch_size}. Received: "
                f"allowed_batch_sizes={list(sizes)}"
            )

    @property
    def row_limit(self) -> int:
        """The most rows of one batch."""
        if self.enable_large_batch_splitting:
            return self.max_execution_batch_size
        return self.max_batch_size

    @property
    def batch_limit(self) -> int:
        """How many batches of one signature may wait; one may, even where it says 0."""
        return max(1, self.max_enqueued_batches)

    def padded_size(self, rows: int) -> int:
        """The number of rows that a batch of ``rows`` is filled up to."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


def read_batching_options(
    path: str | os.PathLike[str] | None, *, flag: str = "batching_parameters_file"
) -> BatchingOptions:
    """Reads a file of BatchingParameters.

    Args:
        path: A text proto; None for the defaults.
        flag: What names the file, for messages.

    Returns:
        The options; those that the file does not give have their defaults, and as many
        threads as the machine has cores.

    Raises:
        NotFoundError: There is no such file.
        InvalidValueError: It is no such proto, or a value is outside its rule.
    """
    cores = os.cpu_count() or 1
    if path is None:
        return BatchingOptions(
            num_batch_threads=cores, thread_pool_name="model_server_batch_threads"
        )
    proto = read_config_file(path, BatchingParameters(), flag=flag)
    given = {
        field.name: getattr(proto, field.name).value
        for field in proto.DESCRIPTOR.fields
        if field.message_type is not None and proto.HasField(field.name)
    }
    given.setdefault("num_batch_threads", cores)
    # As there, a batch may be as large as a request where nothing else is said.
    if "max_batch_size" in given:
        given.setdefault("max_execution_batch_size", given["max_batch_size"])
    try:
        return BatchingOptions(
            **given,
            allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
            pad_variable_length_inputs=proto.pad_variable_length_inputs,
        )
    except InvalidValueError as error:
        raise InvalidValueError(f"{error}, in {path}") from None
