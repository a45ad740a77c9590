"""Every mistake a user can make: its class, its message, and nothing left behind."""

import gzip
import os

import pytest

from adaptiverec.common import errors
from adaptiverec.pipeline import prepare

GOOD = "user,item,time\na,x,1\na,y,2\n"


@pytest.fixture
def fails(tmp_path, log):
    """Runs ``prepare`` with one thing wrong and gives the message."""

    def run(error_class, **options):
        log(GOOD, "good.csv")
        before = sorted(tmp_path.rglob("*"))
        arguments = {
            "input": [str(tmp_path / "good.csv")],
            "output": str(tmp_path / "out"),
            "user_column": "user",
            "item_column": "item",
            "time_column": "time",
            "min_user_interactions": 1,
            "min_item_interactions": 1,
            **options,
        }
        with pytest.raises(error_class) as caught:
            prepare(**arguments)
        assert type(caught.value) is error_class
        assert sorted(tmp_path.rglob("*")) == before
        return str(caught.value)

    return run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input": []}, "`input` must be a list of one path or pattern or more. Rec"),
        ({"input": "log.csv"}, "Received: 'log.csv'"),
        ({"output": ""}, "`output` must be a text that is not empty. Received: ''"),
        ({"user_column": "item"}, "be columns of their own. Received: ['item', 'it"),
        ({"delimiter": ""}, "`delimiter` must be one character or more"),
        ({"delimiter": '"'}, "none of them a quote or a line break. Received: '\"'"),
        ({"quote": "|"}, "which means that no field is quoted. Received: '|'"),
        ({"encoding": "utf-9"}, "`encoding` must be a text encoding that Python knows"),
        (
            {"encoding": "base64"},
            "`encoding` must be a text encoding that Python knows",
        ),
        ({"format": "xml"}, "one of auto, csv, jsonl, parquet, avro. Received: 'xml'"),
        ({"compression": "xz"}, "auto, none, gzip, bzip2, zstd. Received: 'xz'"),
        (
            {"time_column": None},
            "`time_column` or `order_column` must say in which ord",
        ),
        ({"order_column": "item"}, "must be columns of their own"),
        ({"passthrough_columns": ["a", "a"]}, "must name each column once"),
        (
            {"time_zone": "Mars/Olympus"},
            "such as UTC or Europe/London. Received: 'Mars",
        ),
        ({"min_rating": 3.0}, "`min_rating` needs `rating_column`. Received: 3.0"),
        ({"event_types": ["buy"]}, "`event_types` needs `event_column`"),
        (
            {"start_time": "2024-01-02", "end_time": "2024-01-01"},
            "`start_time` must be before `end_time`",
        ),
        (
            {"rating_column": "r", "min_rating": float("nan")},
            "`min_rating` must be a finite number. Received: nan",
        ),
        ({"repeats": "drop"}, "keep, collapse, first, last. Received: 'drop'"),
        ({"max_user_interactions": 0}, "of at least `min_user_interactions`. Received"),
        ({"max_rejected_fraction": 1.5}, "must be from 0 to 1. Received: 1.5"),
        ({"split": "time", "test_days": 7}, "Received: 'only test_days'"),
        (
            {"split": "time", "test_days": 7, "validation_days": -1},
            "`validation_days` must be a number of days above 0. Received: -1",
        ),
        ({"test_days": 7, "validation_days": 7}, "needs `split` to be time"),
        ({"output_compression": "zip"}, "one of none, gzip. Received: 'zip'"),
        ({"header": "no"}, "`header` must be true or false. Received: 'no'"),
        ({"header": False}, "a position counted from 0 where `header` is false. Re"),
        (
            {"time_format": "days"},
            "iso8601, or a pattern such as %d/%m/%Y %H:%M. Received: 'days'",
        ),
        ({"split": "random"}, "one of leave-one-out, time, none. Received: 'random'"),
        ({"min_user_interactions": 0}, "an integer of at least 1. Received: 0"),
        ({"min_item_interactions": 2.5}, "an integer of at least 1. Received: 2.5"),
        ({"num_shards": 0}, "`num_shards` must be an integer from 1 to 10000. Rec"),
        ({"num_shards": True}, "Received: True"),
        ({"beam_options": "--runner=X"}, "`beam_options` must be a list of texts"),
        ({"validation_start": "2024-01-01"}, "`validation_start` needs `split` to be"),
        ({"split": "time", "test_start": "2024-01-01"}, "Received: 'only test_start'"),
        (
            {"split": "time", "validation_start": "May", "test_start": "2024-01-01"},
            "`validation_start` must be an ISO 8601 time such as",
        ),
        (
            {
                "split": "time",
                "validation_start": "2024-01-02",
                "test_start": "2024-01-02",
            },
            "`validation_start` must be before `test_start`. Received: '2024-01-02 and",
        ),
        ({"beam_options": ["--runer=FlinkRunner"]}, "Received: --runer=FlinkRunner"),
        ({"beam_options": ["--runner=NoRunner"]}, "Received: --runner=NoRunner (Unex"),
        ({"beam_options": ["--direct_num_workers=two"]}, "invalid int value: 'two'"),
        ({"beam_options": ["--help"]}, "must be flags of Beam. Received: --help"),
    ],
)
def test_wrong_options(fails, options, message):
    assert message in fails(errors.InvalidValueError, **options)


def test_a_pattern_without_a_match(fails, tmp_path):
    # Whatever the others match: a part of the log that is silently not there is worse.
    patterns = [str(tmp_path / "good.csv"), str(tmp_path / "bad*.csv")]
    message = fails(errors.NotFoundError, input=patterns)
    assert message.startswith("`input` must match at least one file. Received: ")
    assert "bad*.csv" in message


def test_a_directory_is_not_a_file(fails, tmp_path):
    message = fails(errors.NotFoundError, input=[str(tmp_path)])
    assert message.endswith(", which is a directory")


def test_an_unknown_file_system(fails):
    assert "nofs://a" in fails(errors.NotFoundError, input=["nofs://a/b"])
    assert "nofs://a" in fails(errors.OutputError, output="nofs://a/b")


def test_a_missing_column_lists_what_is_there(fails):
    message = fails(errors.NotFoundError, user_column="usr")
    assert (
        "`user_column` must name one column of every file; the columns are " in message
    )
    assert "'user', 'item', 'time'. Received: 'usr', which is not there" in message


def test_every_file_must_have_the_columns(fails, log):
    other = log("user,product,time\na,x,1\n", "other.csv")
    message = fails(errors.NotFoundError, input=[other])
    assert other in message


def test_a_column_that_is_there_twice(fails, log):
    path = log("user,item,user,time\na,x,b,1\n")
    assert "more than once" in fails(errors.NotFoundError, input=[path])


def test_a_position_beyond_the_last(fails):
    message = fails(
        errors.NotFoundError,
        header=False,
        user_column="0",
        item_column="1",
        time_column="7",
    )
    assert "`time_column` must be a position from 0 to 2" in message


def test_the_output_is_there(fails, log, tmp_path):
    (tmp_path / "out").mkdir()
    log("mine", "out/file")
    assert str(tmp_path / "out") in fails(errors.OutputExistsError)
    assert (tmp_path / "out" / "file").read_text() == "mine"


def test_the_output_cannot_be_written(fails, tmp_path):
    message = fails(errors.OutputError, output=str(tmp_path / "good.csv" / "out"))
    assert message.startswith("The output must be a path that can be written. Received")


@pytest.mark.parametrize("data", ["", "user,item,time\n\n"])
def test_no_rows(fails, log, data):
    message = fails(errors.StageError, input=[log(data)])
    assert "Received: rows read 0, rejected 0, duplicates 0" in message


def test_no_good_rows(fails, log):
    path = log("user,item,time\na,x,soon\n,x,1\nb,y,later\n")
    assert fails(errors.StageError, input=[path], max_rejected_fraction=1.0) == (
        "At least one interaction must be left to write. Received: rows read 3, "
        "rejected 3 (time is not a number: 2, user is missing: 1), duplicates 0, of "
        "rare users and items 0"
    )


def test_nothing_left_of_the_core(fails):
    message = fails(errors.StageError, min_item_interactions=2)
    assert "rows read 2, rejected 0, duplicates 0, of rare users and items 2" in message


def test_times_that_cannot_be_split(fails, log):
    path = log("user,item,time\n" + "".join(f"u{n},x,7\n" for n in range(9)))
    message = fails(errors.StageError, input=[path], split="time")
    assert "Give `validation_start` and `test_start`" in message
    assert message.endswith("Received: 1970-01-01T00:00:07.000001Z for both")


@pytest.mark.parametrize("cut", [15, 2000])
def test_a_truncated_file_is_not_half_a_log(fails, log, cut):
    rng_rows = "".join(f"u{n * 7919 % 997},i{n * 31 % 101},{n}\n" for n in range(5000))
    data = gzip.compress(("user,item,time\n" + rng_rows).encode())
    path = log(data[:cut], "log.csv.gz")
    message = fails(errors.StageError, input=[path])
    assert message.startswith("An input file must be readable to its end. Received: ")
    assert path in message


def test_text_with_the_name_of_a_compressed_file(fails, log):
    path = log(GOOD, "log.csv.gz")
    assert path in fails(errors.StageError, input=[path])


def test_lost_rows_are_noticed(fails, monkeypatch):
    from adaptiverec.pipeline import driver

    def lossy(read):
        def run(places):
            summary = read(places)
            summary["tally"]["rows_read"] += 1
            return summary

        return run

    monkeypatch.setattr(driver, "_read_summary", lossy(driver._read_summary))
    message = fails(errors.StageError)
    assert "the runner lost or repeated data. Received: {'rows_read': 3" in message


def test_a_full_disk(fails, monkeypatch):
    from adaptiverec.pipeline import shuffle

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(shuffle.Shuffle, "put", full)
    assert "There must be room beside the output" in fails(errors.OutputError)
