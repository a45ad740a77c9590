"""The figures behind the training report, against numbers worked by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.model import report_curves as curves
from adaptiverec.model.report_charts import epoch_colour, ramp_place
from adaptiverec.model.report_cohorts import cohorts, mean_interval, rate_interval
from adaptiverec.model.report_curves import spread_over
from adaptiverec.model.report_embeddings import embedding_map, spectrum


@pytest.mark.parametrize(
    ("hits", "number", "low", "high"),
    # Wilson (1927), as tables have it.
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)],
)
def test_the_interval_of_a_share(hits, number, low, high) -> None:
    found = rate_interval(np.arange(number) < hits, np.arange(number))
    assert found.mean == hits / number
    assert found.low == pytest.approx(low, abs=1e-4)
    assert found.high == pytest.approx(high, abs=1e-4)


def test_the_interval_of_a_mean_by_hand() -> None:
    # Mean .5; squared deviations .01 + .01 + 0 = .02; variance of the mean 3/2 * .02 / 9:
    # that of a share of .25 / .00333 + 1 = 76 targets.
    found = mean_interval([0.4, 0.6, 0.5], np.arange(3))
    assert found == pytest.approx(rate_interval(np.arange(76) < 38, np.arange(76)))
    # Two targets of each of two users: sums of deviations -.2 and .2, a variance of
    # 2 * .08 / 16, that of a share of 26.
    found = mean_interval([0.4, 0.4, 0.6, 0.6], np.array([3, 3, 9, 9]))
    assert found == pytest.approx(rate_interval(np.arange(26) < 13, np.arange(26)))


def test_where_all_are_alike_users_are_counted_and_not_their_targets() -> None:
    alone = rate_interval(np.zeros(3), np.arange(3))
    for interval in (rate_interval, mean_interval):
        assert interval(np.zeros(300), np.repeat(np.arange(3), 100)) == alone
        one_user = interval(np.zeros(300), np.zeros(300))
        assert one_user == pytest.approx((0.0, 0.0, 0.7935), abs=1e-4)


def test_the_interval_of_a_mean_holds_where_little_is_hit() -> None:
    """NDCG of 60 targets, of which 2 % are hit: most samples have one hit or none."""
    generator = np.random.default_rng(0)
    gains = 1 / np.log2(np.arange(1, 11) + 1)
    truth = 0.02 * gains.mean()
    covered = 0
    for _ in range(1000):
        hit = generator.random(60) < 0.02
        values = np.where(hit, generator.choice(gains, 60), 0.0)
        found = mean_interval(values, np.arange(60))
        assert found.low <= found.mean <= found.high
        covered += found.low <= truth <= found.high
    assert covered > 930


@given(st.lists(st.floats(0.4, 0.6), min_size=20, max_size=50), st.integers(2, 5))
def test_targets_of_one_user_are_not_counted_as_independent(values, times) -> None:
    users = np.arange(len(values))
    once = mean_interval(values, users)
    often = mean_interval(np.repeat(values, times), np.repeat(users, times))
    assert often == pytest.approx(once, abs=1e-9)


def test_equal_targets_of_a_user_widen_the_interval_of_a_share() -> None:
    hits = np.arange(200) < 40
    once = rate_interval(hits, np.arange(200))
    often = rate_interval(np.repeat(hits, 4), np.repeat(np.arange(200), 4))
    assert often == pytest.approx(once, abs=2e-4)
    alone = rate_interval(np.repeat(hits, 4), np.arange(800))
    assert alone.high - alone.low < 0.6 * (once.high - once.low)


@given(st.lists(st.integers(0, 300_000), min_size=1, max_size=400))
def test_every_target_is_in_one_cohort(keys) -> None:
    keys = np.array(keys)
    hits = keys % 3 == 0
    groups = cohorts(keys, hits, hits / 2, np.arange(len(keys)))
    assert sum(group.num_targets for group in groups) == len(keys)
    assert groups[0].least == keys.min()
    assert groups[-1].most == keys.max()
    for before, after in itertools.pairwise(groups):
        assert before.most < after.least
    if len(keys) >= 30:
        assert all(group.num_targets >= 30 for group in groups)
    for group in groups:
        inside = (keys >= group.least) & (keys <= group.most)
        assert group.num_targets == inside.sum()
        assert group.recall.mean == pytest.approx(hits[inside].mean())
        assert (
            group.recall.low - 1e-12 <= group.recall.mean <= group.recall.high + 1e-12
        )


def test_singular_values_of_known_vectors() -> None:
    # Centred already; its singular values are 4 and 3, and the third direction is unused.
    vectors = np.array([[2.0, 0, 0], [-2, 0, 0], [2, 0, 0], [-2, 0, 0]])
    vectors[:, 1] = [1.5, 1.5, -1.5, -1.5]
    found = spectrum(vectors + 7.0)
    np.testing.assert_allclose(found.values, [1, 0.75, 0], atol=1e-6)
    shares = np.array([4 / 7, 3 / 7])
    assert found.effective_rank == pytest.approx(np.exp(-(shares @ np.log(shares))))
    # 16 / 25 of the variance is not enough.
    assert found.directions_for_90 == 2
    assert spectrum(np.ones((5, 3))).effective_rank == 1.0


def test_a_map_keeps_the_distances_in_a_plane() -> None:
    generator = np.random.default_rng(0)
    plane = generator.normal(size=(50, 2)) * [5, 1]
    turned, _ = np.linalg.qr(generator.normal(size=(6, 6)))
    vectors = plane @ turned[:2]
    popularity = np.arange(50)
    found = embedding_map(vectors, popularity, num_groups=5)
    expected = np.linalg.norm(plane[:, None] - plane[None], axis=-1)
    shown = np.linalg.norm(found.points[:, None] - found.points[None], axis=-1)
    np.testing.assert_allclose(shown, expected, atol=1e-9)
    assert sum(found.shares) == pytest.approx(1.0)
    assert found.shares[0] > found.shares[1]
    assert found.ranges == [(0, 9), (10, 19), (20, 29), (30, 39), (40, 49)]
    assert found.groups.tolist() == list(np.repeat(np.arange(5), 10))


def test_a_map_of_items_that_are_equally_popular_has_one_group() -> None:
    found = embedding_map(np.eye(4), np.full(4, 7), num_groups=5, size=3)
    assert found.ranges == [(7, 7)]
    assert len(found.points) == 3
    assert found.num_items == 4


def test_sections_are_left_out_where_there_is_nothing_to_show() -> None:
    history = [
        {"loss": 2.0, "next_item_loss": 2.0},
        {"loss": 1.0, "next_item_loss": 1.0},
    ]
    assert curves.contrast_section(history) is None
    assert curves.measures_section(history, None) is None
    assert curves.threshold_section(history, []) is None
    assert curves.similarity_section([]) is None
    assert curves.geometry_section([]) is None
    losses = curves.loss_section(history, None)
    assert [label for label, _, _ in losses["keys"]] == [
        "total, training",
        "next item, training",
    ]
    assert "from 2 to 1" in losses["chart"]


def test_thresholds_and_positives_are_shown_by_epoch(monkeypatch) -> None:
    drawn = {}

    def draw_lines(lines, words, **_):
        drawn[words.name] = lines
        return words.description

    monkeypatch.setattr(curves, "draw_lines", draw_lines)
    history = [
        {
            "threshold_mean": 0.1 * epoch,
            "similarity_target": 0.2 * epoch,
            "num_positives": 10.0 * epoch,
            "positive_share": 0.02 * epoch,
        }
        for epoch in (1, 2, 3)
    ]
    # At 5, 25, 50, 75 and 95 %; the first epoch's were not noted.
    noted = [
        {"epoch": epoch, "threshold_quantiles": [0.01 * epoch, 0.02, epoch, 4.0, 5.0]}
        for epoch in (2, 3)
    ]
    found = curves.threshold_section(history, noted)
    median, target = drawn["thresholds"]
    assert median.epochs == target.epochs == [1, 2, 3]
    np.testing.assert_equal(median.values, [np.nan, 2, 3])
    low, high = median.band
    np.testing.assert_equal(low, [np.nan, 0.02, 0.03])
    np.testing.assert_equal(high, [np.nan, 5.0, 5.0])
    np.testing.assert_allclose(target.values, [0.2, 0.4, 0.6])
    assert "from 2 to 3; " in found["thresholds"]["chart"]
    (positives,) = drawn["positives"]
    assert positives.values == [10, 20, 30]
    assert "from 10 to 30" in found["positives"]["chart"]
    assert found["positives"]["note"].endswith("6.0 % of a row's negatives.")


def test_similarities_are_shown_as_a_curve_an_epoch() -> None:
    percents = np.arange(101)
    diagnostics = [
        {
            "epoch": epoch,
            # At p per cent: p / 100 - 1 / epoch.
            "similarity_quantiles": list(percents / 100 - 1 / epoch),
            "num_sequences": 64,
        }
        for epoch in (1, 2, 4)
    ]
    diagnostics.insert(2, {"epoch": 3, "similarity_quantiles": None})
    found = curves.similarity_section(diagnostics)
    assert found["num_sequences"] == 64
    assert found["num_shown"] == found["num_epochs"] == 3
    assert [label for label, _ in found["keys"]] == ["epoch 1", "epoch 2", "epoch 4"]
    assert len({colour for _, colour in found["keys"]}) == 3
    # At 5, 50, 90 and 99 %, with a true minus.
    assert found["rows"] == [
        ("1", "\u22120.950", "\u22120.500", "\u22120.100", "\u22120.010"),
        ("2", "\u22120.450", "0.000", "0.400", "0.490"),
        ("4", "\u22120.200", "0.250", "0.650", "0.740"),
    ]
    said = "The median cosine is -0.500 after epoch 1 and 0.250 after epoch 4."
    assert said in found["chart"]


def test_losses_of_two_kinds_are_told_apart() -> None:
    history = [{"loss": 2.0, "next_item_loss": 2.0, "val_loss": 3.0}]
    alike = curves.loss_section(history, None)
    assert "compared" not in alike["note"]
    apart = curves.loss_section(history, None, trained_loss="gBCE, 2,048 negatives")
    assert [label for label, _, _ in apart["keys"]] == [
        "total, training",
        "next item, training: gBCE, 2,048 negatives",
        "next item, validation: softmax over all items",
    ]
    assert "cannot be compared" in apart["note"]


def test_the_table_of_a_long_run_keeps_its_best_epoch() -> None:
    history = [{"loss": 1.0, "val_ndcg@10": 0.001 * epoch} for epoch in range(200)]
    table = curves.epochs_table(history, [], 78)
    epochs = [epoch for epoch, _, _ in table["rows"]]
    assert epochs[0] == 1
    assert epochs[-1] == table["num_epochs"] == 200
    assert [epoch for epoch, best, _ in table["rows"] if best] == [78]
    assert len(epochs) <= 21
    assert table["columns"] == ["loss", "NDCG@10", "seconds"]


def test_colours_go_from_green_to_red() -> None:
    def parts(colour):
        return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]

    red, green, _ = parts(epoch_colour(1, 9))
    assert green > red
    red, green, _ = parts(epoch_colour(9, 9))
    assert red > green
    assert [ramp_place(group, 5) for group in range(5)] == [0, 1, 2, 3, 4]
    assert [ramp_place(group, 2) for group in range(2)] == [0, 4]


@given(st.integers(1, 300), st.integers(2, 40))
def test_spread_over_keeps_the_ends(number, most) -> None:
    shown = spread_over(range(number), most)
    assert shown[0] == 0
    assert shown[-1] == number - 1
    assert len(shown) == min(number, most)
    assert shown == sorted(set(shown))
