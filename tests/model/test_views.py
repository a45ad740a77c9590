import pytest

from adaptiverec.common.errors import InvalidValueError
from adaptiverec.model.views import make_views, num_passes


def encode(*batches):
    """Each pass over a batch gets a dropout mask, and so a number, of its own."""
    return [f"f{number}({batch})" for number, batch in enumerate(batches, start=1)]


def counted(passes: list[str]):
    def encode_and_count(*batches):
        passes.extend(batches)
        return encode(*batches)

    return encode_and_count


@pytest.mark.parametrize(
    ("kind", "pairs"),
    [
        (None, []),
        ("un", [("f1(s)", "f2(s)")]),
        ("su", [("f1(s)", "f2(s')")]),
        ("us", [("f1(s)", "f2(s)"), ("f1(s)", "f3(s')")]),
        ("us_x", [("f2(s)", "f3(s')")]),
        ("augment", [("f2(a(s))", "f3(b(s))")]),
    ],
)
def test_which_two_are_contrasted(kind, pairs) -> None:
    passes: list[str] = []
    views = make_views(
        kind,
        counted(passes),
        "s",
        same_target_item_ids="s'",
        augment=lambda s: (f"a({s})", f"b({s})"),
    )
    assert views.first_pass == "f1(s)"
    assert views.pairs == pairs
    assert num_passes(kind) == len(passes)


def test_supervised_views_need_the_other_sequence() -> None:
    with pytest.raises(
        InvalidValueError, match=r"same_target_item_ids.*Received: views='su'"
    ):
        make_views("su", encode, "s")


def test_there_is_no_number_of_passes_of_other_views() -> None:
    with pytest.raises(InvalidValueError, match=r"views.*Received: .*sideways"):
        num_passes("sideways")
