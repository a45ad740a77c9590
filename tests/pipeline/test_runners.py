"""The job on more than one worker, with batches that travel, and Beam's own flags."""

import inspect
import pickle
import socket
import sys

import apache_beam as beam
import pytest

from adaptiverec.common import errors
from adaptiverec.pipeline import driver, prepare, runner
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.runner import beam_pipeline_options, is_local
from adaptiverec.pipeline.shuffle import ROWS, Shuffle

LOCAL = ["", "DirectRunner", "direct", "FnApiRunner"]
LOCAL_RUNNER = ["--runner=FnApiRunner", "--direct_num_workers=2"]
# Another runner's job service, in this process: batches travel there.
PORTABLE_RUNNER = [
    "--runner=PortableRunner",
    "--job_endpoint=embed",
    "--environment_type=LOOPBACK",
]


@pytest.fixture
def arguments(log, tmp_path):
    rows = "".join(
        f"u{n * 7 % 50},i{n * 13 % 30},{n // 3},{n},{n % 6},text {n}\n"
        for n in range(3000)
    )
    return {
        "input": [log("user,item,time,order,rating,extra\n" + rows + ",bad,1,1,1,\n")],
        "output": str(tmp_path / "out"),
        "user_column": "user",
        "item_column": "item",
        "time_column": "time",
        "order_column": "order",
        "rating_column": "rating",
        "min_rating": 2,
        "passthrough_columns": ["extra"],
        "max_user_interactions": 30,
        "split": "time",
        "num_shards": 4,
    }


def checked(arguments):
    parameters = inspect.signature(prepare).parameters
    defaults = {name: value.default for name, value in parameters.items()}
    return PrepareOptions.checked(**{**defaults, **arguments})


def test_every_runner_gives_the_same(arguments, tmp_path):
    expected = prepare(**arguments)
    assert expected["counts"]["rejected"] == 1
    assert expected["counts"]["filtered"] == 1000
    assert expected["counts"]["over_max_user_interactions"] > 100
    ways = {
        "processes": [*LOCAL_RUNNER, "--direct_running_mode=multi_processing"],
        "threads": [*LOCAL_RUNNER, "--direct_running_mode=multi_threading"],
        "portable": PORTABLE_RUNNER,
    }
    for name, flags in ways.items():
        given = {**arguments, "output": str(tmp_path / name), "beam_options": flags}
        metadata = driver.run_job(checked(given), block_bytes=4096)
        del metadata["configuration"]["beam_options"]
        assert metadata == {
            **expected,
            "configuration": {
                key: value
                for key, value in expected["configuration"].items()
                if key != "beam_options"
            },
        }
        for path in tmp_path.glob("out/*"):
            if path.name not in (
                "metadata.json",
                "_SUCCESS",
                "report.html",
                "rejected",
            ):
                assert (tmp_path / name / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("spill", [True, False])
@pytest.mark.parametrize("kind", [ROWS, "graph"])
def test_batches_come_back(tmp_path, spill, kind):
    import pyarrow as pa

    disk, shared = tmp_path / "disk", tmp_path / "shared"
    disk.mkdir()
    shared.mkdir()
    shuffle = Shuffle(str(disk) if spill else None, str(shared))
    shuffle = pickle.loads(pickle.dumps(shuffle))
    batches = [pa.record_batch({"a": list(range(n))}) for n in (3, 0, 2)]
    handles = pickle.loads(pickle.dumps(shuffle.put(batches, kind)))
    assert [shuffle.get(handle) for handle in reversed(handles)] == batches[::-1]
    # Spilled, all are in one file. Else rows travel, which a runner shuffles well, and
    # nothing else, since a runner would hold in memory at once what it gathers.
    assert len(list(disk.iterdir())) == spill
    assert len(list(shared.iterdir())) == (not spill and kind != ROWS)


def test_batches_travel_where_no_file_system_is_shared():
    import pyarrow as pa

    batch = pa.record_batch({"a": [1, 2]})
    (handle,) = Shuffle(None).put([batch], "graph")
    assert isinstance(handle, bytes)
    assert Shuffle(None).get(handle) == batch


@pytest.mark.parametrize("name", LOCAL)
def test_the_local_runner_is_named_and_uses_all_cores(name, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    flags = [f"--runner={name}"] if name else []
    options = beam_pipeline_options(flags, use_all_cores=True)
    assert is_local(options)
    values = options.get_all_options()
    assert values["runner"] == "FnApiRunner"
    assert values["direct_num_workers"] == 7
    assert values["direct_running_mode"] == "multi_threading"


def test_small_jobs_need_no_threads_and_flags_win():
    assert not {"direct_num_workers", "direct_running_mode"} & set(
        beam_pipeline_options([], use_all_cores=False).get_all_options(True)
    )
    flags = ["--direct_num_workers", "3", "--direct_running_mode=in_memory"]
    values = beam_pipeline_options(flags, use_all_cores=True).get_all_options()
    assert values["direct_num_workers"] == 3
    assert values["direct_running_mode"] == "in_memory"


def test_other_runners_are_left_alone():
    flags = ["--runner=FlinkRunner", "--flink_master=localhost:8081", "--parallelism=4"]
    options = beam_pipeline_options(flags, use_all_cores=True)
    assert not is_local(options)
    assert options.get_all_options()["flink_master"] == "localhost:8081"


def test_flags_of_a_job_server_pass_with_a_note(capsys):
    flags = ["--runner=FlinkRunner", "--execution_mode_for_batch=BATCH"]
    options = beam_pipeline_options(flags, use_all_cores=True)
    # Kept for the job server, which alone knows the names of its flags.
    kept = options.get_all_options(retain_unknown_options=True)
    assert kept["execution_mode_for_batch"] == "BATCH"
    assert (
        "Note: --execution_mode_for_batch=BATCH is not a flag of Beam's"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("flags", "received"),
    [
        # Slips of the pen, which would go unnoticed.
        (
            ["--runner=FlinkRunner", "--flink_mastr=host:8081"],
            "--flink_mastr=host:8081",
        ),
        (["--runner=SparkRunner", "--paralelism=2"], "--paralelism=2"),
        # Values belong to their flag.
        (["--runner=FlinkRunner", "--object_reuse", "true"], "true"),
        # Dataflow has no job server.
        (["--runner=DataflowRunner", "--no_such=1"], "--no_such=1"),
        (["--execution_mode_for_batch=BATCH"], "--execution_mode_for_batch=BATCH"),
    ],
)
def test_other_flags_must_be_beams(flags, received):
    with pytest.raises(errors.InvalidValueError) as caught:
        beam_pipeline_options(flags, use_all_cores=True)
    assert str(caught.value) == (
        f"`beam_options` must be flags of Beam. Received: {received}"
    )


def test_nobody_at_the_job_endpoint(arguments, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        flags = [
            "--runner=PortableRunner",
            f"--job_endpoint=127.0.0.1:{port}",
            "--job_server_timeout=1",
            "--environment_type=LOOPBACK",
        ]
        with pytest.raises(errors.StageError) as caught:
            prepare(**arguments, beam_options=flags)
    assert str(caught.value) == (
        "The runner must bring the job to its end; nothing was published. "
        "Received: no answer from the job server"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


class Result:
    """What a runner gives: a job that ends in a state, or in an exception."""

    def __init__(self, end):
        self.end = end
        self.cancelled = False

    def wait_until_finish(self):
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end

    def cancel(self):
        self.cancelled = True


@pytest.fixture
def ends(monkeypatch):
    def run(end, *, local=False):
        result = Result(end)
        monkeypatch.setattr(beam.Pipeline, "run", lambda _: result)
        runner.run_to_the_end(beam.Pipeline(), local=local, output="out")
        return result

    return run


FLINKS_WORDS = """Pipeline 7 failed in state FAILED: java.lang.RuntimeException: Error
received from SDK harness for instruction 8: Traceback (most recent call last):
  File "transforms.py", line 65, in process
    sequences, tally = form_sequences(
ArrowInvalid: offset overflow

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
RuntimeError: ArrowInvalid: offset overflow [while running 'SortPartitions/ParDo']

    at java.base/java.util.concurrent.CompletableFuture.reportGet(Unknown Source)"""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            FLINKS_WORDS,
            "RuntimeError: ArrowInvalid: offset overflow "
            "[while running 'SortPartitions/ParDo']",
        ),
        (
            "Pipeline 7 failed in state FAILED: java.net.ConnectException: refused\nat",
            "Pipeline 7 failed in state FAILED: java.net.ConnectException: refused",
        ),
        ("", "RuntimeError"),
    ],
)
def test_a_job_that_fails_on_a_cluster(ends, words, reason):
    with pytest.raises(errors.StageError) as caught:
        ends(RuntimeError(words))
    assert str(caught.value) == (
        "The runner must bring the job to its end; nothing was published. "
        f"Received: {reason}"
    )
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("state", ["CANCELLED", "FAILED", "UNKNOWN"])
def test_a_job_that_ends_without_an_exception(ends, state):
    with pytest.raises(errors.StageError, match=f"Received: the state {state}"):
        ends(state)


def test_a_job_that_is_done(ends):
    assert not ends("DONE").cancelled


def test_an_interrupted_driver_cancels_the_job(monkeypatch):
    result = Result(KeyboardInterrupt())
    monkeypatch.setattr(beam.Pipeline, "run", lambda _: result)
    with pytest.raises(KeyboardInterrupt):
        runner.run_to_the_end(beam.Pipeline(), local=False, output="out")
    assert result.cancelled


def test_a_fault_of_our_own_keeps_its_type_on_the_local_runner(ends):
    with pytest.raises(RuntimeError, match="a bug"):
        ends(RuntimeError("a bug"), local=True)


@pytest.mark.parametrize("local", [True, False])
def test_a_disk_without_room(ends, local):
    message = "OSError: [Errno 28] No space left on device [while running 'ReadRows']"
    with pytest.raises(errors.OutputError) as caught:
        ends(RuntimeError(message), local=local)
    assert str(caught.value) == (
        "There must be room beside the output for the rows themselves, twice, and the "
        "sequences. Received: No space left on device in out"
    )


def test_a_runner_that_lacks_a_package(arguments, monkeypatch):
    # Whether or not it is there.
    name = "apache_beam.runners.dataflow.internal.apiclient"
    monkeypatch.setitem(sys.modules, name, None)
    flags = [
        "--runner=DataflowRunner",
        "--project=my-project",
        "--region=europe-west1",
        "--temp_location=gs://my-bucket/temp",
    ]
    with pytest.raises(errors.InvalidValueError) as caught:
        prepare(**arguments, beam_options=flags)
    assert str(caught.value) == (
        "`beam_options` must name a runner that is installed, with what it needs. "
        "Received: Google Cloud Dataflow runner not available, please install "
        "apache_beam[gcp]"
    )
