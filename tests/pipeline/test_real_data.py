"""Real logs, against what is known of them; skipped where they are not at hand."""

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
