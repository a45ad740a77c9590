"""Real logs, against what is known of them; skipped where they are not at hand."""

import polars as pl
import pytest

from adaptiverec.pipeline import prepare


def test_amazon_beauty(data_directory, tmp_path, read_prepared):
    metadata = prepare(
        input=[str(data_directory / "amazon-beauty" / "interactions.csv.gz")],
        output=str(tmp_path / "out"),
        user_column="reviewerID",
        item_column="asin",
        time_column="unixReviewTime",
    )
    assert metadata["num_users"] == 22_363
    assert metadata["num_items"] == 12_101
    assert metadata["num_interactions"] == 198_502
    # All but each user's first interaction and the two held out.
    assert metadata["num_train_instances"] == 131_413 == 198_502 - 3 * 22_363 + 0
    assert metadata["rejected"] == 0
    prepared = read_prepared(tmp_path / "out")
    assert sum(len(user.items) for user in prepared.users.values()) == 198_502
    assert all(user.times == sorted(user.times) for user in prepared.users.values())


def test_movielens_100k(data_directory, tmp_path):
    metadata = prepare(
        input=[str(data_directory / "ml-100k" / "u.data.gz")],
        output=str(tmp_path / "out"),
        user_column="0",
        item_column="1",
        time_column="3",
        header=False,
        delimiter="\\t",
        min_user_interactions=1,
        min_item_interactions=1,
    )
    assert metadata["counts"]["rows_read"] == metadata["num_interactions"] == 100_000
    assert (metadata["num_users"], metadata["num_items"]) == (943, 1_682)


def test_online_retail(data_directory, tmp_path, read_prepared):
    metadata = prepare(
        input=[str(data_directory / "online-retail" / "*.csv.gz")],
        output=str(tmp_path / "out"),
        user_column="CustomerID",
        item_column="StockCode",
        time_column="InvoiceDate",
        time_format="iso8601",
        min_user_interactions=1,
        min_item_interactions=1,
    )
    assert len(metadata["input_files"]) == 13
    assert metadata["counts"]["rows_read"] == 541_909
    assert metadata["rejected_by_reason"] == {"user is missing": 135_080}
    assert metadata["num_users"] == 4_372
    assert metadata["time_range"]["first"] == "2010-12-01T08:26:00Z"
    prepared = read_prepared(tmp_path / "out")
    assert len(prepared.rejected) == 135_080
    # Ids are text: the customer of the first row is a float there, and stays one.
    assert "17850.0" in prepared.users


@pytest.mark.slow
def test_online_retail_by_all_rules(data_directory, tmp_path, read_prepared):
    # Against polars, from the same files.
    paths = sorted((data_directory / "online-retail").glob("*.csv.gz"))
    rows = pl.concat([pl.read_csv(path, infer_schema=False) for path in paths])
    known = rows.filter(pl.col("CustomerID").is_not_null()).with_columns(
        pl.col("StockCode").str.to_lowercase(), pl.col("Quantity").cast(pl.Float64)
    )
    bought = known.filter(pl.col("Quantity") >= 1)
    columns = ["CustomerID", "StockCode", "InvoiceDate", "Quantity", "InvoiceNo"]
    distinct = bought.unique(columns)
    once = distinct.unique(["CustomerID", "StockCode"])
    metadata = prepare(
        input=[str(data_directory / "online-retail" / "*.csv.gz")],
        output=str(tmp_path / "out"),
        user_column="CustomerID",
        item_column="StockCode",
        time_column="InvoiceDate",
        time_format="%Y-%m-%d %H:%M:%S",
        time_zone="Europe/London",
        rating_column="Quantity",
        min_rating=1,
        passthrough_columns=["InvoiceNo"],
        lowercase_ids=True,
        repeats="last",
        min_user_interactions=1,
        min_item_interactions=1,
        split="time",
        validation_days=30,
        test_days=30,
    )
    assert len(rows) == 541_909
    assert len(rows) - len(known) == 135_080
    assert metadata["counts"] == {
        "rows_read": 541_909,
        "rejected": 135_080,
        "filtered": len(known) - len(bought),
        "duplicates": len(bought) - len(distinct),
        "repeats": len(distinct) - len(once),
        "over_max_user_interactions": 0,
        "below_min_interactions": 0,
        "kept": len(once),
    }
    assert metadata["filtered_by_rule"] == {"min_rating": len(known) - len(bought)}
    assert metadata["num_users"] == once["CustomerID"].n_unique()
    assert metadata["num_items"] == once["StockCode"].n_unique()
    # The last time of each item is the one that is kept; clocks of London in winter.
    user = read_prepared(tmp_path / "out").users["17850.0"]
    latest = dict(
        distinct.filter(pl.col("CustomerID") == "17850.0")
        .group_by("StockCode")
        .agg(pl.col("InvoiceDate").str.to_datetime().max().dt.epoch("us"))
        .iter_rows()
    )
    assert dict(zip(user.items, user.times, strict=True)) == latest


@pytest.mark.slow
def test_movielens_1m_in_the_order_of_its_ranks(
    data_directory, tmp_path, read_prepared
):
    path = data_directory / "ml-1m" / "ratings_ranked.tsv.gz"
    rows = pl.read_csv(path, separator="\t").sort("user_id", "rank")
    prepared = {}
    # By the rank alone, and where it only breaks the ties of (lower bounds of) times.
    for name, time_column in (("rank", None), ("times", "ts_min")):
        metadata = prepare(
            input=[str(path)],
            output=str(tmp_path / name),
            delimiter="\t",
            user_column="user_id",
            item_column="movie_id",
            time_column=time_column,
            order_column="rank",
        )
        assert metadata["num_interactions"] == 999_611
        assert (metadata["num_users"], metadata["num_items"]) == (6_040, 3_416)
        prepared[name] = read_prepared(tmp_path / name)
    items = dict(rows.group_by("user_id").agg("movie_id").iter_rows())
    for user_id, user in prepared["rank"].users.items():
        kept = set(user.items)
        expected = [str(item) for item in items[int(user_id)]]
        assert user.items == [item for item in expected if item in kept]
    assert len(prepared["rank"].users["1"].items) == 53
    assert prepared["rank"].users["1"].items[0] == "3186"
    agreeing = sum(
        user.items == prepared["times"].users[user_id].items
        for user_id, user in prepared["rank"].users.items()
    )
    assert agreeing == 6_040


def test_events_of_taobao(data_directory, tmp_path, read_prepared):
    path = data_directory / "taobao-userbehavior-sample" / "UserBehavior.csv.gz"
    metadata = prepare(
        input=[str(path)],
        output=str(tmp_path / "out"),
        header=False,
        user_column="0",
        item_column="1",
        time_column="4",
        event_column="3",
        event_types=["buy", "cart"],
        min_user_interactions=1,
        min_item_interactions=1,
        split="none",
    )
    assert metadata["counts"]["rows_read"] == 110_300
    assert metadata["filtered_by_rule"] == {"event_types": 98_361 + 3_383}
    assert (
        metadata["counts"]["kept"] + metadata["counts"]["duplicates"] == 2_493 + 6_063
    )


def test_reviews_of_musical_instruments(data_directory, tmp_path):
    metadata = prepare(
        input=[str(data_directory / "amazon-musical-instruments" / "*.jsonl.gz")],
        output=str(tmp_path / "out"),
        user_column="reviewerID",
        item_column="asin",
        time_column="unixReviewTime",
        rating_column="overall",
    )
    assert metadata["num_interactions"] == 10_261
    assert (metadata["num_users"], metadata["num_items"]) == (1_429, 900)
