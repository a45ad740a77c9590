"""Real logs as they were published, against what is known of them."""

import collections
import csv
import gzip
import json

import pytest


def test_movielens_with_its_own_delimiter(data_directory, read_rows):
    path = data_directory / "ml-1m" / "ratings_exact.dat.gz"
    rows = read_rows(
        path,
        header=False,
        delimiter="::",
        user_column="0",
        item_column="1",
        rating_column="2",
        time_column="3",
        block_bytes=1 << 22,
    )
    assert (len(rows.good), rows.rejected) == (700_607, [])
    assert sum(row["rating"] >= 4 for row in rows.good) == 575_281
    with gzip.open(path, "rt") as file:
        first = next(file).strip().split("::")
    assert list(rows.good[0].values()) == [
        first[0],
        first[1],
        int(first[3]) * 1_000_000,
        float(first[2]),
    ]


def test_movielens_with_an_order_and_times_that_are_not_known(
    data_directory, read_rows
):
    rows = read_rows(
        data_directory / "ml-1m" / "ratings_ranked.tsv.gz",
        delimiter="\\t",
        user_column="user_id",
        item_column="movie_id",
        time_column="timestamp",
        order_column="rank",
        block_bytes=1 << 22,
    )
    assert len(rows.good) == 700_607
    reasons = collections.Counter(reason for _, reason, _ in rows.rejected)
    assert reasons == {"time is missing": 299_602}


def test_movie_titles_in_latin_1(data_directory, read_rows):
    path = data_directory / "ml-100k" / "u.item.gz"
    options = {
        "header": False,
        "delimiter": "|",
        "quote": "",
        "user_column": "0",
        "item_column": "1",
        "time_column": "2",
        "time_format": "%d-%b-%Y",
    }
    rows = read_rows(path, encoding="iso-8859-1", **options)
    with gzip.open(path, "rt", encoding="iso-8859-1") as file:
        lines = [line.rstrip("\n").split("|") for line in file]
    dated = [line for line in lines if line[2]]
    assert [row["item"] for row in rows.good] == [line[1] for line in dated]
    assert len(rows.rejected) == len(lines) - len(dated) == 1
    # In the wrong encoding, the titles that have such letters are not lost but named.
    wrong = read_rows(path, **options)
    reasons = collections.Counter(reason for _, reason, _ in wrong.rejected)
    assert reasons["text is not UTF-8"] == sum(not line[1].isascii() for line in lines)


def test_reviews_in_json_lines(data_directory, read_rows):
    path = data_directory / "amazon-musical-instruments" / "reviews.jsonl.gz"
    rows = read_rows(
        path,
        user_column="reviewerID",
        item_column="asin",
        time_column="unixReviewTime",
        rating_column="overall",
        passthrough_columns=["reviewTime"],
    )
    with gzip.open(path, "rt") as file:
        found = [json.loads(line) for line in file]
    assert rows.rejected == []
    assert [tuple(row.values()) for row in rows.good] == [
        (
            row["reviewerID"],
            row["asin"],
            row["unixReviewTime"] * 1_000_000,
            row["overall"],
            row["reviewTime"],
        )
        for row in found
    ]
    assert len(found) == 10_261


@pytest.mark.parametrize("multiline", [False, True])
def test_a_shop_with_quoted_descriptions(data_directory, read_rows, multiline):
    path = data_directory / "online-retail" / "2010-12.csv.gz"
    rows = read_rows(
        path,
        user_column="CustomerID",
        item_column="StockCode",
        time_column="InvoiceDate",
        time_format="%Y-%m-%d %H:%M:%S",
        time_zone="Europe/London",
        passthrough_columns=["Description", "InvoiceNo"],
        multiline=multiline,
    )
    with gzip.open(path, "rt", newline="") as file:
        found = list(csv.DictReader(file))
    known = [row for row in found if row["CustomerID"]]
    assert [
        (row["user"], row["item"], row["extra/Description"], row["extra/InvoiceNo"])
        for row in rows.good
    ] == [
        (row["CustomerID"], row["StockCode"], row["Description"], row["InvoiceNo"])
        for row in known
    ]
    reasons = collections.Counter(reason for _, reason, _ in rows.rejected)
    assert reasons == {"user is missing": len(found) - len(known)}


def test_events_of_a_shop(data_directory, read_rows):
    rows = read_rows(
        data_directory / "taobao-userbehavior-sample" / "UserBehavior.csv.gz",
        header=False,
        user_column="0",
        item_column="1",
        event_column="3",
        time_column="4",
    )
    events = collections.Counter(row["event"] for row in rows.good)
    assert events == {"pv": 98_361, "cart": 6_063, "fav": 3_383, "buy": 2_493}
    assert rows.rejected == []
