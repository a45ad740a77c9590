"""How long a recommendation takes inside a server process, and what memory a model takes.

Makes up a model (no training), saves it as `export` does, and asks it in a fresh process
through a TF1 session, as TensorFlow Serving does. Memory is what the process takes more,
after answering, and what of that is due to the items: the rest is TensorFlow's code and
buffers, and the same for a model of a thousand items. Beside it stand a floor, which only
multiplies the item matrix with a query and takes the best, and TensorFlow Recommenders'
BruteForce as the retrieval of the same model. ::

    python benchmarks/serving_latency.py --items 12000 1000000
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
FLOOR = "floor"
K = 10
FEW_ITEMS = 1000


def item_id(number: int) -> str:
    """Ten characters, as Amazon's."""
    return f"B{number:09d}"


def save(directory: Path, kind: str, items: int, options: argparse.Namespace) -> None:
    """Saves a model of a kind."""
    import tensorflow as tf

    from adaptiverec.model.adaptive_rec import AdaptiveRec
    from adaptiverec.serving.recommender_module import RecommenderModule

    if kind == FLOOR:
        save_floor(directory, items, options.dim)
        return
    tf.keras.utils.set_random_seed(0)
    model = AdaptiveRec(
        items,
        max_length=options.length,
        hidden_dim=options.dim,
        num_blocks=options.blocks,
        objective="none",
    )
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "vocabulary.txt"
        path.write_text("".join(f"{item_id(number)}\n" for number in range(items)))
        module = RecommenderModule(
            model, str(path), popularity=np.arange(items, 0, -1), retrieval=kind
        )
        tf.saved_model.save(module, str(directory), signatures=module.signatures())


def save_floor(directory: Path, items: int, dim: int) -> None:
    """A product and a top-k: what no retrieval that looks at every item can go below."""
    import tensorflow as tf

    class Floor(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            generator = np.random.default_rng(0)
            matrix = generator.standard_normal((items, dim), np.float32)
            self.matrix = tf.Variable(matrix)
            self.query = tf.Variable(matrix[:1])

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None], tf.string, name="history"),
                tf.TensorSpec([None], tf.int32, name="k"),
            ]
        )
        def __call__(self, history: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
            query = tf.tile(self.query, [tf.shape(history)[0], 1])
            scores = tf.matmul(query, self.matrix, transpose_b=True)
            values, rows = tf.math.top_k(scores, k[0])
            return {"scores": values, "rows": rows}

    module = Floor()
    tf.saved_model.save(
        module, str(directory), signatures={"serving_default": module.__call__}
    )


def resident() -> float:
    """Resident memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(directory: Path, items: int, options: argparse.Namespace) -> dict[str, Any]:
    """Loads a saved model and asks it."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2

    from adaptiverec.serving.free_memory import give_memory_back

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        session.run(tf.constant(0))
    before = resident()
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        loaded = tf.compat.v1.saved_model.loader.load(
            session, ["serve"], str(directory)
        )
    signature = loaded.signature_def["serving_default"]
    names = [name for name in signature.inputs if name in ("history", "k")]
    defaults = {
        name: tf.make_ndarray(proto)
        for name, proto in signature.defaults.items()
        if name not in names
    }
    feeds = [signature.inputs[name].name for name in [*names, *defaults]]
    call_options = config_pb2.CallableOptions(
        feed=feeds, fetch=[info.name for info in signature.outputs.values()]
    )
    # In the caller's thread, as requests run in TensorFlow Serving.
    call_options.run_options.inter_op_thread_pool = -1
    call = session._make_callable_from_options(call_options)
    generator = np.random.default_rng(0)

    def request(batch: int) -> list[np.ndarray]:
        numbers = generator.integers(0, items, (batch, options.length))
        history = np.array(
            [[item_id(number).encode() for number in row] for row in numbers], object
        )
        inputs = {"history": history, "k": np.full(batch, K, np.int32)}
        return [inputs[name] for name in names] + list(defaults.values())

    figures: dict[str, Any] = {}
    for batch in options.batch:
        requests = [request(batch) for _ in range(20)]
        for each in requests[:5]:
            call(*each)
        times = []
        for number in range(max(options.requests // batch, 20)):
            begin = time.perf_counter()
            call(*requests[number % len(requests)])
            times.append(time.perf_counter() - begin)
        figures[str(batch)] = (np.percentile(times, [0, 50, 90, 99]) * 1e3).tolist()
    gc.collect()
    give_memory_back()
    figures["memory"] = resident() - before
    return figures


def in_process(*arguments: str) -> str:
    """Runs this script in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return done.stdout


def save_and_measure(kind: str, items: int, rest: list[str]) -> dict[str, Any]:
    """A model of a kind, saved in one process and measured in another."""
    with tempfile.TemporaryDirectory() as temporary:
        # The last of an option given twice counts.
        arguments = [*rest, "--items", str(items), "--kinds", kind]
        arguments += ["--directory", f"{temporary}/1", "--step"]
        in_process(*arguments, "save")
        return json.loads(in_process(*arguments, "measure"))


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=[12_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument(
        "--kinds",
        nargs="+",
        default=[FLOOR, "exact", "brute_force"],
        help="and streaming",
    )
    parser.add_argument("--step", choices=["save", "measure"], help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "save":
        save(options.directory, options.kinds[0], options.items[0], options)
        return
    if options.step == "measure":
        print(json.dumps(measure(options.directory, options.items[0], options)))
        return
    rest = sys.argv[1:]
    for kind in options.kinds:
        least = save_and_measure(kind, FEW_ITEMS, rest)["memory"]
        for items in options.items:
            data = items * (options.dim * 4 + len(item_id(0)) + 1) / 2**20
            figures = save_and_measure(kind, items, rest)
            memory = figures["memory"]
            print(
                f"{kind}, {items:,} items, item matrix and vocabulary {data:,.0f} MiB: "
                f"{memory:,.0f} MiB, {memory / data:.2f}; of that by the items "
                f"{memory - least:,.0f} MiB, {(memory - least) / data:.2f}",
                flush=True,
            )
            for batch in options.batch:
                low, p50, p90, p99 = figures[str(batch)]
                print(
                    f"    batch {batch:3}: least {low:7.2f}  p50 {p50:7.2f}  "
                    f"p90 {p90:7.2f}  p99 {p99:7.2f} ms"
                )


if __name__ == "__main__":
    main()
