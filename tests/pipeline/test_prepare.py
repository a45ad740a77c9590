"""What a user asks of ``prepare``, end to end on files."""

import bz2
import datetime
import gzip
import json

import pytest

from adaptiverec.pipeline import contract, prepare

COLUMNS = {"user_column": "user", "item_column": "item", "time_column": "time"}
KEEP_ALL = {"min_user_interactions": 1, "min_item_interactions": 1}


@pytest.fixture
def run(tmp_path, read_prepared):
    """Prepares files with all interactions kept, and reads the result back."""

    def run_prepare(*paths, **options):
        out = tmp_path / "out"
        metadata = prepare(
            **{
                "input": list(paths),
                "output": str(out),
                **COLUMNS,
                **KEEP_ALL,
                **options,
            }
        )
        prepared = read_prepared(out)
        assert prepared.metadata == metadata
        return prepared

    return run_prepare


def test_a_small_log(run, log, tmp_path, capsys):
    path = log("user,item,time\nb,x,30\na,x,3\na,y,1\na,z,2\nb,x,10\n,x,5\na,y,1\n")
    prepared = run(path)
    a, b = prepared.users["a"], prepared.users["b"]
    assert prepared.shards == [["a", "b"]]
    # x three times; y and z once each, in the order of their bytes.
    assert prepared.vocabulary == ["x", "y", "z"]
    assert (a.items, a.times) == (["y", "z", "x"], [1_000_000, 2_000_000, 3_000_000])
    assert (a.train_end, a.validation_end) == (1, 2)
    # An item again at another time is another interaction.
    assert b.items == ["x", "x"]
    assert (b.train_end, b.validation_end) == (2, 2)
    metadata = prepared.metadata
    assert metadata["counts"] == {
        "rows_read": 7,
        "rejected": 1,
        "duplicates": 1,
        "below_min_interactions": 0,
        "kept": 5,
    }
    assert metadata["time_range"] == {
        "first": "1970-01-01T00:00:01Z",
        "last": "1970-01-01T00:00:30Z",
    }
    assert prepared.rejected == [
        {"file": path, "offset": 47, "reason": "user is missing", "row": ",x,5"}
    ]
    assert metadata["configuration"]["input"] == [path]
    assert metadata["configuration"]["num_shards"] == 1
    assert "output" not in metadata["configuration"]
    assert metadata["input_files"] == [{"path": path, "bytes": 58}]
    assert metadata["num_users_without_targets"] == 1
    assert set(prepared.files) == {
        "_SUCCESS",
        "metadata.json",
        "vocabulary.txt",
        "sequences-00000-of-00001.tfrecord",
        "rejected/00000-000000000015.jsonl",
    }
    # The reader of the directory agrees, and nothing else was left beside it.
    files = prepared.files
    assert (
        contract.check_whole(files["metadata.json"], files["_SUCCESS"], where="here")
        == metadata
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.csv", "out"]
    assert "Prepared 7 rows: 1 rejected, 1 duplicates" in capsys.readouterr().err


def test_names_of_files_and_directories(run, log, tmp_path):
    # An empty output directory is as good as none; a name with brackets is a name; and
    # without a rejected row there is no directory for them.
    (tmp_path / "out").mkdir()
    run(log("user,item,time\na,x,1\n", "log[1].csv"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "_SUCCESS",
        "metadata.json",
        "sequences-00000-of-00001.tfrecord",
        "vocabulary.txt",
    ]


def test_every_way_to_write_it(run, log, tmp_path):
    ways = [
        b"user,item,time\r\nU,x,1\r\nU,y,2\r\n",
        b"\xef\xbb\xbfuser,item,time\nU,x,1\nU,y,2",
        b'"user","item","time"\n"U","x","1"\n"U",y,2\n',
        b"\n\nuser,item,time\n\nU,x,1\n\n\nU,y,2\n\n",
        b"time,more,item,user\n1,,x,U\n2,\xff,y,U\n",
        b'note,user,item,time\n"b, c",U,x,1\n"""quoted"", twice",U,y,2\n',
        b"user,item,time\nU,x,1.0\nU,y,0.2e1\n",
        b"",
    ]
    for number, data in enumerate(ways):
        log(data.replace(b"U", b"user%d" % number), f"{number}.csv")
    # The first file matches both patterns and is read once.
    prepared = run(str(tmp_path / "?.csv"), str(tmp_path / "0.csv"))
    assert prepared.users.keys() == {f"user{n}" for n in range(7)}
    for found in prepared.users.values():
        assert found.items == ["x", "y"]
        assert found.times == [1_000_000, 2_000_000]
    assert prepared.metadata["counts"]["rows_read"] == 14
    assert prepared.metadata["rejected"] == 0
    sizes = [file["bytes"] for file in prepared.metadata["input_files"]]
    # "user0" is four bytes longer than "U".
    assert sizes == [len(data) + 4 * data.count(b"U") for data in ways]


def test_compressed(run, log):
    # Two members one after the other are one file, as gzip itself has it.
    for name, compress in (("a.csv.gz", gzip.compress), ("b.bz2", bz2.compress)):
        text = f"user,item,time\n{name},x,1\n{name}".encode()
        path = log(compress(text) + compress(b",y,2\n,z,3\n"), name)
    prepared = run(path, path.replace("b.bz2", "a.csv.gz"))
    for name in ("a.csv.gz", "b.bz2"):
        assert prepared.users[name].items == ["x", "y"]
    assert [row["offset"] for row in prepared.rejected] == [41, 35]


def test_positions_and_tabs(run, log):
    prepared = run(
        log("a\t9\tx\t1\na\t9\ty\t2\n"),
        user_column="0",
        item_column="2",
        time_column="3",
        header=False,
        delimiter="\\t",
    )
    assert prepared.users["a"].items == ["x", "y"]
    assert prepared.metadata["configuration"]["delimiter"] == "\t"


def test_negative_times_are_before_1970(run, log):
    prepared = run(log("user,item,time\na,x,0\na,y,-1\n"))
    assert prepared.users["a"].items == ["y", "x"]
    assert prepared.metadata["time_range"]["first"] == "1969-12-31T23:59:59Z"


def test_both_minimums_hold_at_once(run, log):
    # u3 has the rare z; without it u3 is rare, and without u3 the item y is.
    text = "user,item,time\n" + "".join(
        f"{user},{item},{time}\n"
        for time, (user, item) in enumerate(
            [
                ("u1", "x"),
                ("u1", "w"),
                ("u2", "x"),
                ("u2", "w"),
                ("u3", "y"),
                ("u3", "z"),
                ("u1", "y"),
            ]
        )
    )
    prepared = run(log(text), min_user_interactions=2, min_item_interactions=2)
    assert prepared.users.keys() == {"u1", "u2"}
    assert prepared.vocabulary == ["w", "x"]
    assert prepared.metadata["counts"]["below_min_interactions"] == 3


DAYS = "user,item,time\n" + "".join(
    f"{user},{item},2024-01-{day:02d}\n"
    for user, item, day in [
        ("a", "x", 1),
        ("a", "y", 10),
        ("a", "z", 20),
        ("b", "x", 10),
        ("b", "y", 11),
        ("c", "x", 25),
        ("d", "x", 2),
    ]
)


def test_split_by_given_times(run, log):
    prepared = run(
        log(DAYS),
        time_format="iso8601",
        split="time",
        validation_start="2024-01-10",
        test_start="2024-01-20T00:00:00+00:00",
    )
    ends = {
        user: (found.train_end, found.validation_end)
        for user, found in prepared.users.items()
    }
    assert ends == {"a": (1, 2), "b": (0, 2), "c": (0, 0), "d": (1, 1)}
    metadata = prepared.metadata
    # b's first and c's only interaction are targets without a history.
    assert metadata["num_validation_instances"] == 2
    assert metadata["num_test_instances"] == 1
    assert metadata["num_train_instances"] == 0
    assert metadata["num_users_without_targets"] == 1
    assert metadata["split"] == {
        "method": "time",
        "validation_start": "2024-01-10T00:00:00Z",
        "test_start": "2024-01-20T00:00:00Z",
    }


def test_split_by_time_finds_its_own_points(run, log):
    rows = "".join(f"u{n % 3},i{n % 2},{n}\n" for n in range(100))
    metadata = run(log("user,item,time\n" + rows), split="time").metadata
    start = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    for key, seconds in (("validation_start", 79), ("test_start", 89)):
        point = datetime.datetime.fromisoformat(metadata["split"][key]) - start
        # Just behind the 80th and the 90th, to 1/65,536 of 99 seconds.
        assert seconds < point.total_seconds() <= seconds + 99.001 / 65_536
    assert metadata["num_validation_instances"] == 10
    assert metadata["num_test_instances"] == 10


def test_split_none(run, log):
    prepared = run(log(DAYS), time_format="iso8601", split="none")
    assert prepared.users["a"].train_end == 3
    assert prepared.metadata["split"] == {"method": "none"}
    assert prepared.metadata["num_users_without_targets"] == 4
    assert prepared.metadata["num_train_instances"] == 3


def test_more_shards_than_users(run, log):
    prepared = run(log("user,item,time\na,x,1\n"), num_shards=5)
    assert sorted(len(shard) for shard in prepared.shards) == [0, 0, 0, 0, 1]
    assert prepared.metadata["shards"][4]["file"] == "sequences-00004-of-00005.tfrecord"


def test_one_user_with_most_of_the_log(run, log):
    rows = "".join(f"whale,i{n % 700},{n}\n" for n in range(20_000))
    prepared = run(log("user,item,time\nb,x,1\n" + rows), num_shards=4)
    assert prepared.users["whale"].items == [f"i{n % 700}" for n in range(20_000)]


def test_the_path_does_not_reach_the_data(run, log, tmp_path):
    first = run(
        log("user,item,time\na,x,1\nb,x,1\n", "1.csv"), output=str(tmp_path / "out")
    )
    (tmp_path / "out").rename(tmp_path / "first")
    second = run(log("user,item,time\nb,x,1\na,x,1\n", "2.csv"))
    assert first.metadata["fingerprint"] == second.metadata["fingerprint"]
    assert first.metadata["input_files"] != second.metadata["input_files"]


def test_rejected_rows_show_any_bytes(run, log):
    prepared = run(log(b"user,item,time\na,x,1\n\xff\xfe,x,1\n"))
    assert prepared.rejected[0]["row"] == "\\xff\\xfe,x,1"
    (name,) = [name for name in prepared.files if name.startswith("rejected/")]
    assert json.loads(prepared.files[name])["offset"] == 21
