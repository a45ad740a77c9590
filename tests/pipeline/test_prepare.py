"""What a user asks of ``prepare``, end to end on files."""

import bz2
import datetime
import gzip
import hashlib
import itertools
import json

import pytest

from adaptiverec.common import errors
from adaptiverec.pipeline import contract, prepare, sizes

COLUMNS = {"user_column": "user", "item_column": "item", "time_column": "time"}
KEEP_ALL = {"min_user_interactions": 1, "min_item_interactions": 1, "report": False}


@pytest.fixture
def run(tmp_path, read_prepared):
    """Prepares files with all interactions kept, and reads the result back."""
    number = itertools.count()

    def run_prepare(*paths, **options):
        # "out", "out1" and so on.
        out = tmp_path / f"out{next(number) or ''}"
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
    prepared = run(path, report=True)
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
        "filtered": 0,
        "duplicates": 1,
        "repeats": 0,
        "over_max_user_interactions": 0,
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
        "popularity.tsv",
        "report.html",
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
        "popularity.tsv",
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


def test_the_path_does_not_reach_the_data(run, log):
    first = run(log("user,item,time\na,x,1\nb,x,1\n", "1.csv"))
    second = run(log("user,item,time\nb,x,1\na,x,1\n", "2.csv"))
    assert first.metadata["fingerprint"] == second.metadata["fingerprint"]
    assert first.metadata["input_files"] != second.metadata["input_files"]


def test_rejected_rows_show_any_bytes(run, log):
    prepared = run(log(b"user,item,time\na,x,1\n\xff\xfe,x,1\n"))
    assert prepared.rejected[0]["row"] == "\\xff\\xfe,x,1"
    (name,) = [name for name in prepared.files if name.startswith("rejected/")]
    assert json.loads(prepared.files[name])["offset"] == 21


def test_too_many_rejected_rows(run, log, tmp_path):
    path = log("user,item,time\na,x,1\n,x,1\nb,x,soon\na,y,2\n")
    assert run(path, max_rejected_fraction=0.5).metadata["rejected"] == 2
    with pytest.raises(errors.StageError) as caught:
        run(path, max_rejected_fraction=0.4)
    message = str(caught.value)
    assert "`max_rejected_fraction`, which is 0.4. Received: 0.5000, 2 of 4" in message
    assert "time is not a number: 1, user is missing: 1" in message
    assert f"user is missing: ',x,1' at 21 of {path}" in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.csv", "out"]


EVERYTHING = """user,item,time,seq,stars,kind,note,page
u,x,10,2,4.5,view,first,p1
u,y,10,1,-1,buy,,p2
u,x,30,1,3,view,\u00e9,p3
u,x,40,1,3,view,again,p4
u,x,40,1,3,view,again,p4
v,y,5,1,0.1,buy,"a, b",p5
v,y,5,1,0.2,click,later,p5
"""
ALL_COLUMNS = {
    "order_column": "seq",
    "rating_column": "stars",
    "event_column": "kind",
    "passthrough_columns": ["page", "note"],
}


def test_what_is_kept_beside_interactions(run, log):
    prepared = run(log(EVERYTHING), **ALL_COLUMNS)
    u, v = prepared.users["u"], prepared.users["v"]
    assert u.items == ["y", "x", "x", "x"]
    assert u.kept == {
        "ratings": [-1.0, 4.5, 3.0, 3.0],
        "event_types": ["buy", "view", "view", "view"],
        "extra/page": ["p2", "p1", "p3", "p4"],
        "extra/note": ["", "first", "\u00e9", "again"],
    }
    # Two rows that differ in rating alone are two interactions.
    assert [round(rating, 6) for rating in v.kept["ratings"]] == [0.1, 0.2]
    assert v.kept["extra/note"] == ["a, b", "later"]
    assert prepared.metadata["counts"]["duplicates"] == 1


def test_filters_and_rules_are_counted_in_their_order(run, log):
    prepared = run(
        log(EVERYTHING),
        **ALL_COLUMNS,
        event_types=["view", "buy"],
        min_rating=0.05,
        repeats="collapse",
        max_user_interactions=1,
        end_time="1970-01-01T00:00:35Z",
    )
    # By type v's click goes, by rating u's y, by time both rows of 40, of which one is
    # a duplicate that nobody looks for any more; then x at 10 and 30 are one.
    assert prepared.metadata["counts"] == {
        "rows_read": 7,
        "rejected": 0,
        "filtered": 4,
        "duplicates": 0,
        "repeats": 1,
        "over_max_user_interactions": 0,
        "below_min_interactions": 0,
        "kept": 2,
    }
    assert prepared.metadata["filtered_by_rule"] == {
        "end_time": 2,
        "event_types": 1,
        "min_rating": 1,
    }
    assert prepared.users["u"].times == [10_000_000]
    assert prepared.users["u"].kept["extra/note"] == ["first"]


def test_the_newest_are_kept(run, log):
    rows = "".join(f"u,i{n},{n}\n" for n in range(20))
    prepared = run(log("user,item,time\n" + rows), max_user_interactions=3)
    assert prepared.users["u"].items == ["i17", "i18", "i19"]
    assert prepared.metadata["counts"]["over_max_user_interactions"] == 17
    assert prepared.vocabulary == ["i17", "i18", "i19"]


def test_without_times(run, log):
    prepared = run(
        log("user,item,seq\nu,x,3\nu,y,-1\nu,z,10\n"),
        time_column=None,
        order_column="seq",
        report=True,
    )
    assert prepared.users["u"].items == ["y", "x", "z"]
    assert prepared.users["u"].times == []
    assert prepared.metadata["time_range"] is None
    assert (prepared.users["u"].train_end, prepared.users["u"].validation_end) == (1, 2)
    assert "report.html" in prepared.files


def test_split_by_last_days(run, log):
    prepared = run(
        log(DAYS),
        time_format="iso8601",
        split="time",
        validation_days=15,
        test_days=5,
    )
    # The last interaction is of the 25th. The 20th is five days before it and so just
    # not in the test part; the 5th, likewise, would not be in the validation part.
    ends = {
        user: (found.train_end, found.validation_end)
        for user, found in prepared.users.items()
    }
    assert ends == {"a": (1, 3), "b": (0, 2), "c": (0, 0), "d": (1, 1)}
    assert prepared.metadata["split"] == {
        "method": "time",
        "validation_start": "2024-01-05T00:00:00.000001Z",
        "test_start": "2024-01-20T00:00:00.000001Z",
    }
    assert prepared.metadata["configuration"]["validation_days"] == 15
    assert prepared.metadata["configuration"]["test_days"] == 5


def test_popularity(run, log):
    prepared = run(log(DAYS), time_format="iso8601")
    # Leave-one-out holds out a's last two of three.
    assert prepared.files["popularity.tsv"].decode() == (
        "item_id\tinteractions\ttrain_interactions\nx\t4\t4\ny\t2\t1\nz\t1\t0\n"
    )
    popularity = prepared.metadata["popularity"]
    digest = hashlib.sha256(prepared.files[popularity["file"]]).hexdigest()
    assert popularity["sha256"] == digest


def test_compressed_output(run, log):
    path = log("user,item,time\n" + "".join(f"u{n % 50},i,{n}\n" for n in range(999)))
    plain = run(path, num_shards=2)
    packed, again = (run(path, num_shards=2, output_compression="gzip") for _ in "12")
    assert packed.users == plain.users
    assert packed.shards == plain.shards
    assert packed.metadata["fingerprint"] == plain.metadata["fingerprint"]
    assert (plain.metadata["compression"], packed.metadata["compression"]) == (
        "none",
        "gzip",
    )
    for number in range(2):
        name = f"sequences-0000{number}-of-00002.tfrecord"
        data = packed.files[name + ".gz"]
        assert gzip.decompress(data) == plain.files[name]
        # The same bytes whenever it is made: no time in the header.
        assert again.files[name + ".gz"] == data
        shard = packed.metadata["shards"][number]
        assert shard["sha256"] == hashlib.sha256(data).hexdigest()
        content = hashlib.sha256(plain.files[name]).hexdigest()
        assert shard["content_sha256"] == content
        assert plain.metadata["shards"][number]["sha256"] == content


def test_how_a_log_is_stored_does_not_reach_the_output(run, log, tmp_path, monkeypatch):
    lines = [f"u{n * 7 % 300},i{n * 13 % 90},{n // 3}\n" for n in range(6000)]
    header = "user,item,time\n"
    ways = [[log(header + "".join(lines), "one.csv")]]
    ways.append([log(header + "".join(lines[n::3]), f"part-{n}.csv") for n in range(3)])
    ways.append(
        [log(gzip.compress((header + "".join(lines[::-1])).encode()), "r.csv.gz")]
    )
    found = []
    for way, bytes_each in [*((way, 3000) for way in ways), (ways[0], 1 << 20)]:
        # Many partitions or one.
        monkeypatch.setattr(sizes, "_PARTITION_BYTES", bytes_each)
        found.append(run(*way, split="time"))
    for shards in (1, 3, 64):
        monkeypatch.setattr(sizes, "_PARTITION_BYTES", 10_000)
        found.append(run(*ways[1], split="time", num_shards=shards))
    by_shards = {}
    for prepared in found:
        by_shards.setdefault(len(prepared.shards), set()).add(
            prepared.metadata["fingerprint"]
        )
    # However many shards there are, the users and what they hold are the same.
    assert {shards: len(prints) for shards, prints in by_shards.items()} == {
        1: 1,
        3: 1,
        64: 1,
    }
    for prepared in found:
        assert prepared.users == found[0].users
        assert list(itertools.chain(*prepared.shards)) == found[0].shards[0]
        for name in ("vocabulary.txt", "popularity.tsv"):
            assert prepared.files[name] == found[0].files[name]


def test_one_user_with_many_rows_in_one_partition_of_many(run, log, monkeypatch):
    monkeypatch.setattr(sizes, "_PARTITION_BYTES", 1000)
    rows = "".join(f"whale,i{n % 700},{n}\n" for n in range(20_000))
    more = "".join(f"u{n},i{n % 700},{n}\n" for n in range(500))
    prepared = run(log("user,item,time\n" + rows + more), max_user_interactions=15_000)
    assert len(prepared.users["whale"].items) == 15_000
    assert len(prepared.users) == 501


def test_metadata_is_what_json_has(run, log):
    prepared = run(
        log(EVERYTHING),
        **ALL_COLUMNS,
        trim_ids=True,
        start_time="1970-01-01",
    )
    configuration = prepared.metadata["configuration"]
    assert configuration["passthrough_columns"] == ["page", "note"]
    assert configuration["event_types"] == []
    assert configuration["start_time"] == "1970-01-01T00:00:00Z"
    assert prepared.metadata["id_normalization"] == {"trim": True, "lowercase": False}
    assert "report.html" not in prepared.files
    assert json.loads(json.dumps(prepared.metadata)) == prepared.metadata


def test_the_report_is_the_same_each_time(run, log):
    first, second = (run(log(EVERYTHING), **ALL_COLUMNS, report=True) for _ in "12")
    assert first.files["report.html"] == second.files["report.html"]
    assert first.files["metadata.json"] == second.files["metadata.json"]
