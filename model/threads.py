"""Which threads a training step has on a machine of few cores."""

from __future__ import annotations

import os

import tensorflow as tf

__all__ = ["give_each_operation_one_thread"]

_ENVIRONMENT = "TF_NUM_INTRAOP_THREADS"


def give_each_operation_one_thread(*, num_passes: int) -> bool:
    """Has TensorFlow run operations side by side, and none on several threads.

    The passes through the encoder of a training step, one for each of its views, do not
    need each other. Where there is one for each core, cores are best employed with a pass
    each: to divide every operation as well only has the parts wait for one another, a
    seventh of a step on two cores (``benchmarks/training_speed.py``).

    It holds for the whole process, and so is for programs that do nothing but train. To be
    called before TensorFlow's first operation.

    Args:
        num_passes: Of a training step, see :func:`~.views.num_passes`.

    Returns:
        Whether it has. Not so on a single core, with more cores than passes, with a GPU,
        or where the number of threads is already chosen: by the environment
        (``TF_NUM_INTRAOP_THREADS``), by ``tf.config.threading``, or by TensorFlow since
        there has been an operation.
    """
    if not 1 < _num_cores() <= num_passes or tf.config.list_physical_devices("GPU"):
        return False
    if (
        os.environ.get(_ENVIRONMENT)
        or tf.config.threading.get_intra_op_parallelism_threads()
    ):
        return False
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:
        return False
    return True


def _num_cores() -> int:
    """Those that this process may run on, as TensorFlow counts them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
