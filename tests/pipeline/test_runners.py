"""The job on more than one worker, and with batches that travel."""

import pickle

import pytest

from adaptiverec.pipeline import driver, prepare
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.runner import beam_pipeline_options, is_local
from adaptiverec.pipeline.shuffle import Shuffle

LOCAL = ["", "DirectRunner", "direct", "FnApiRunner"]


@pytest.fixture
def arguments(log, tmp_path):
    rows = "".join(f"u{n * 7 % 50},i{n * 13 % 30},{n // 3}\n" for n in range(3000))
    return {
        "input": [log("user,item,time\n" + rows + ",bad,1\n")],
        "output": str(tmp_path / "out"),
        "user_column": "user",
        "item_column": "item",
        "time_column": "time",
        "split": "time",
        "num_shards": 4,
    }


def checked(arguments, **changed):
    defaults = {
        "delimiter": ",",
        "header": True,
        "time_format": "s",
        "min_user_interactions": 5,
        "min_item_interactions": 5,
        "validation_start": None,
        "test_start": None,
        "beam_options": None,
    }
    return PrepareOptions.checked(**{**defaults, **arguments, **changed})


LOCAL_RUNNER = ["--runner=FnApiRunner", "--direct_num_workers=2"]
# Another runner's job service, in this process: batches travel there.
PORTABLE_RUNNER = [
    "--runner=PortableRunner",
    "--job_endpoint=embed",
    "--environment_type=LOOPBACK",
]


def test_every_runner_gives_the_same(arguments, tmp_path):
    expected = prepare(**arguments)
    assert expected["counts"]["rejected"] == 1
    ways = {
        "processes": [*LOCAL_RUNNER, "--direct_running_mode=multi_processing"],
        "threads": [*LOCAL_RUNNER, "--direct_running_mode=multi_threading"],
        "portable": PORTABLE_RUNNER,
    }
    for name, flags in ways.items():
        options = checked(arguments, output=str(tmp_path / name), beam_options=flags)
        metadata = driver.run_job(options, block_bytes=4096)
        assert metadata["fingerprint"] == expected["fingerprint"]
        assert metadata["counts"] == expected["counts"]
        assert metadata["split"] == expected["split"]


@pytest.mark.parametrize("spill", [True, False])
def test_batches_come_back(tmp_path, spill):
    import pyarrow as pa

    directory = str(tmp_path) if spill else None
    shuffle = pickle.loads(pickle.dumps(Shuffle(directory)))
    batches = [pa.record_batch({"a": list(range(n))}) for n in (3, 0, 2)]
    handles = pickle.loads(pickle.dumps(shuffle.put(batches, "rows")))
    assert [shuffle.get(handle) for handle in reversed(handles)] == batches[::-1]
    # Spilled, all are in one file; travelling, there is none.
    assert len(list(tmp_path.iterdir())) == spill


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


@pytest.mark.parametrize(
    ("megabytes", "shards"),
    [(0, 1), (8, 1), (9, 2), (100, 13), (256, 32), (2048, 32), (2049, 33), (6400, 100)],
)
def test_default_number_of_shards(megabytes, shards):
    assert driver.default_num_shards(megabytes << 20) == shards
