"""Errors: what the command line exits with, and what Python users can catch."""

import pytest

from adaptiverec.common import errors
from adaptiverec.common.checks import check_at_least, check_choice, check_rate
from adaptiverec.common.errors import InvalidValueError


@pytest.mark.parametrize(
    ("name", "builtin", "exit_code"),
    [
        ("InvalidValueError", ValueError, 2),
        ("NotFoundError", FileNotFoundError, 1),
        ("OutputExistsError", FileExistsError, 1),
        ("OutputError", OSError, 1),
        ("ContractError", ValueError, 1),
        ("StageError", RuntimeError, 1),
    ],
)
def test_each_error_has_an_exit_code_and_is_the_builtin_one(
    name, builtin, exit_code
) -> None:
    error_class = getattr(errors, name)
    assert issubclass(error_class, (errors.AdaptiveRecError, builtin))
    assert error_class.exit_code == exit_code
    with pytest.raises(builtin, match=r"^The text as it is\. Received: 1$"):
        raise error_class("The text as it is. Received: 1")


def test_no_error_is_left_out_of_the_table_above() -> None:
    assert set(errors.__all__) == {
        "AdaptiveRecError",
        "ContractError",
        "InvalidValueError",
        "NotFoundError",
        "OutputError",
        "OutputExistsError",
        "StageError",
    }


@pytest.mark.parametrize("value", [1, 1.0, 5])
def test_at_least(value) -> None:
    check_at_least("epochs", value, 1)


# NaN is below nothing and above nothing.
@pytest.mark.parametrize("value", [0, -3, float("nan")])
def test_not_at_least(value) -> None:
    with pytest.raises(InvalidValueError) as caught:
        check_at_least("epochs", value, 1)
    assert str(caught.value) == f"epochs must be at least 1. Received: {value}"


def test_choice() -> None:
    check_choice("views", "us", ("us", "su"))
    with pytest.raises(InvalidValueError) as caught:
        check_choice("views", "all", ("us", "su"))
    assert str(caught.value) == "views must be one of 'us', 'su'. Received: 'all'"


def test_rate() -> None:
    check_rate("dropout", 0)
    check_rate("dropout", 0.999)
    for value in (-0.1, 1, float("nan")):
        with pytest.raises(InvalidValueError) as caught:
            check_rate("dropout", value)
        assert str(caught.value) == f"dropout must be in [0, 1). Received: {value}"
