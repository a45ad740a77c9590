"""Logs as they are found in the wild, and what is seen in their first lines."""

import gzip

import pytest

from adaptiverec.common.errors import (
    AdaptiveRecError,
    InvalidValueError,
    NotFoundError,
)
from adaptiverec.common.guess_columns import guess_log_format

RETAIL = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "user_id,item_id,timestamp\nu1,i1,1700000000\n",
            ("user_id", "item_id", "timestamp", ",", True, "s"),
        ),
        (
            "reviewerID,asin,overall,unixReviewTime\nAX,B00,5.0,1365379200\n",
            ("reviewerID", "asin", "unixReviewTime", ",", True, "s"),
        ),
        (
            "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n",
            ("userId", "movieId", "timestamp", ",", True, "s"),
        ),
        (
            RETAIL + '9,8A,"HOLDER, WHITE",6,2010-12-01 08:26:00,2.5,17,France\n',
            ("CustomerID", "StockCode", "InvoiceDate", ",", True, "iso8601"),
        ),
        (
            "timestamp,visitorid,event,itemid\n1433221332117,2,view,3\n",
            ("visitorid", "itemid", "timestamp", ",", True, "ms"),
        ),
        (
            "session_time;session_id;item\n2024-05-31T12:00:00Z;a;b\n",
            ("session_id", "item", "session_time", ";", True, "iso8601"),
        ),
        (
            "ts|client|track\n1700000000123456|a|b\n",
            ("client", "track", "ts", "|", True, "us"),
        ),
        (
            "196\t242\t3\t881250949\n186\t302\t3\t891717742\n",
            ("0", "1", "3", "\t", False, "s"),
        ),
        (
            "1433221332117,5,6\n1433224214164,7,8\n",
            ("1", "2", "0", ",", False, "ms"),
        ),
        # Ids of ten digits are no times.
        (
            "AX,0205616461,5.0,1369699200\nAY,0558925278,3.0,1355443200\n",
            ("0", "1", "3", ",", False, "s"),
        ),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_guesses(tmp_path, text, expected, ending) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(text.replace("\n", ending).encode())
    assert tuple(guess_log_format(path)) == expected


def test_gzip(tmp_path) -> None:
    path = tmp_path / "log.tsv.gz"
    rows = "".join(f"{user}\t7\t3\t881250949\n" for user in range(1000))
    path.write_bytes(gzip.compress(rows.encode()))
    assert tuple(guess_log_format(path)) == ("0", "1", "3", "\t", False, "s")


def test_text_that_is_not_utf_8_is_looked_at_all_the_same(tmp_path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"user,item,time\n\xe9,\xff,1700000000\n")
    assert guess_log_format(path).time_format == "s"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have rows of at least a user, an item and a time. Received: "),
        ("user,item,time\n", "must have rows of at least a user, an item and a time"),
        ("user item time\na b 1\n", "must have rows of at least a user, an item and"),
        ("a,b,c\nx,y,1700000000\n", "No column looks like the user or the item or the"),
        (
            "user,event,time\nx,y,1700000000\n",
            "No column looks like the item; name the columns with --user-column, "
            "--item-column and --time-column. Received: ['user', 'event', 'time'] in ",
        ),
        (
            RETAIL + "9,8A,HOLDER,6,12/1/2010 8:26,2.5,17,France\n",
            "Times must be seconds, milliseconds or microseconds since 1970, or ISO "
            "8601; give --time-format. Received: '12/1/2010 8:26' in ",
        ),
    ],
)
def test_what_cannot_be_guessed(tmp_path, text, message) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(InvalidValueError) as caught:
        guess_log_format(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("short row.csv", b"user,item,time\na,b\n"),
        ("blank row.csv", b"user,item,time\n\n"),
        ("not gzip.csv.gz", b"user,item,time\na,b,1700000000\n"),
        (
            "cut.csv.gz",
            gzip.compress(b"user,item,time\na,b,1700000000\n", mtime=0)[:20],
        ),
    ],
)
def test_a_broken_log_is_the_users_error_and_names_it(tmp_path, name, data) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(AdaptiveRecError, match="Received: ") as caught:
        guess_log_format(path)
    assert name in str(caught.value)


def test_no_file(tmp_path) -> None:
    for path in (tmp_path, tmp_path / "none.csv"):
        with pytest.raises(NotFoundError, match="must be a file. Received: ") as caught:
            guess_log_format(path)
        assert str(path) in str(caught.value)
