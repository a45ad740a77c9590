import pytest

from adaptiverec.common.errors import StageError
from adaptiverec.pipeline.accounting import (
    check_rejected_fraction,
    check_shards,
    count_rows,
)

TALLY = {
    "rows_read": 100,
    "rejected: user is missing": 7,
    "rejected: item is missing": 3,
    "filtered: min_rating": 5,
    "duplicates": 10,
    "repeats": 4,
    "over_max_user_interactions": 6,
    "sorted": 65,
}
EXAMPLES = {
    "user is missing": [{"file": "a.csv", "offset": 15, "row": ",x,1"}],
    "item is missing": [{"file": "b.csv", "offset": 0, "row": "u,,1"}],
}


def test_every_row_is_accounted_for():
    counts = count_rows(TALLY, 60)
    assert counts.totals == {
        "rows_read": 100,
        "rejected": 10,
        "filtered": 5,
        "duplicates": 10,
        "repeats": 4,
        "over_max_user_interactions": 6,
        "below_min_interactions": 5,
        "kept": 60,
    }
    assert counts.rejected_by_reason == {"item is missing": 3, "user is missing": 7}
    assert counts.filtered_by_rule == {"min_rating": 5}


@pytest.mark.parametrize(
    ("changed", "kept"),
    [({"rows_read": 99}, 60), ({"duplicates": 9}, 60), ({"sorted": 64}, 60), ({}, 66)],
)
def test_a_row_too_many_or_too_few(changed, kept):
    with pytest.raises(StageError, match="lost or repeated data. Received: {'rows_re"):
        count_rows({**TALLY, **changed}, kept)


def test_too_many_rejected():
    counts = count_rows(TALLY, 60)
    check_rejected_fraction(counts, EXAMPLES, 0.1)
    with pytest.raises(StageError) as caught:
        check_rejected_fraction(counts, EXAMPLES, 0.09)
    assert str(caught.value) == (
        "The part of the rows that is rejected must be at most `max_rejected_fraction`, "
        "which is 0.09. Received: 0.1000, 10 of 100 rows (item is missing: 3, user is "
        "missing: 7), such as item is missing: 'u,,1' at 0 of b.csv; user is missing: "
        "',x,1' at 15 of a.csv"
    )


def test_nothing_left():
    counts = count_rows({**TALLY, "sorted": 65}, 0)
    with pytest.raises(StageError) as caught:
        check_rejected_fraction(counts, EXAMPLES, 0.5)
    assert str(caught.value) == (
        "At least one interaction must be left to write. Received: rows read 100, "
        "rejected 10 (item is missing: 3, user is missing: 7), filtered 5, duplicates "
        "10, repeats 4, beyond a user's maximum 6, of rare users and items 65"
    )


def test_a_damaged_file_comes_first():
    tally = {"rows_read": 1, "damaged: a.gz (cut off)": 1}
    with pytest.raises(StageError, match="readable to its end. Received: a.gz \\(cut"):
        count_rows(tally, 5)


SUMMARY = {
    "num_shards": 2,
    "core_interactions": 9,
    "shards": [
        {"file": "sequences-00000-of-00002.tfrecord", "num_interactions": 4},
        {"file": "sequences-00001-of-00002.tfrecord", "num_interactions": 5},
    ],
}


def test_every_shard_is_written_once():
    check_shards(SUMMARY)
    lost = {**SUMMARY, "shards": SUMMARY["shards"][:1]}
    twice = {**SUMMARY, "shards": SUMMARY["shards"][:1] * 2}
    for summary in (lost, twice, {**SUMMARY, "core_interactions": 10}):
        with pytest.raises(StageError, match="Every shard must be written once"):
            check_shards(summary)
