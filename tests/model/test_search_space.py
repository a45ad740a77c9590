"""The ranges of a search, as people write them."""

import re

import pytest

from adaptiverec.common.errors import InvalidValueError, NotFoundError
from adaptiverec.model.search_space import Choices, Range, SearchSpace


def read(tmp_path, text: str) -> SearchSpace:
    path = tmp_path / "ranges.yaml"
    path.write_text(text)
    return SearchSpace.read(path)


def test_lists_ranges_and_values(tmp_path) -> None:
    space = read(
        tmp_path,
        """
        # YAML 1.1 takes this for a text.
        learning_rate: {min: 1e-4, max: 0.01, sampling: log}
        dropout: {min: 0, max: 0.5, step: 0.1}
        hidden_dim: {min: 16, max: 64, step: 16}
        views: [us_x, un]
        stream: [true, false]
        epochs: 7
        similarity: null
        """,
    )
    assert space.searched == {
        "learning_rate": Range(1e-4, 0.01, None, log=True, whole=False),
        "dropout": Range(0.0, 0.5, 0.1, log=False, whole=False),
        "hidden_dim": Range(16, 64, 16, log=False, whole=True),
        "views": Choices(("us_x", "un")),
        "stream": Choices((True, False)),
    }
    assert space.given == {"epochs": 7, "similarity": None}


def test_steps_reach_the_end_and_are_round() -> None:
    dropout = Range(0.0, 0.9, 0.1, log=False, whole=False)
    assert dropout.values() == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    blocks = Range(1, 8, 3, log=False, whole=True)
    assert [repr(value) for value in blocks.values()] == ["1", "4", "7"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dropuot: [0.1]", "options of train.* dropout.*Received: 'dropuot'"),
        ("resume: [true]", "must be of options of train.*Received: 'resume'"),
        ("epochs: 3", "at least one option with a list or a range. Received"),
        ("- 1", "must be a mapping from options.*Received: [1]"),
        ("a: [", "must be YAML. Received"),
        ("dropout: {min: 0.1}", "must have min and max.*Received: {'min': 0.1}"),
        ("dropout: {min: 0, max: 1, by: 1}", "may have step and sampling. Received"),
        ("dropout: {min: 0.5, max: 0.1}", "range of dropout must ascend.*Received"),
        ("dropout: {min: 0, max: 0.1, sampling: log}", "above 0 where its sampling"),
        ("dropout: {min: 0, max: 1, sampling: cubic}", "one of linear, log. Received"),
        (
            "dropout: {min: .1, max: 1, step: .1, sampling: log}",
            "a step or a sampling of log, not both. Received",
        ),
        ("views: {min: 1, max: 2}", "views is no number: its range must be a list"),
        ("hidden_dim: [8, 8.5]", "hidden_dim must be a whole number. Received: 8.5"),
        ("hidden_dim: [8, 8]", "choices of hidden_dim must be different values"),
        ("hidden_dim: []", "at least one, none of them null. Received: []"),
        ("dropout: [high]", "dropout must be a number. Received: 'high'"),
        ("dropout: [true]", "dropout must be a number. Received: True"),
        ("views: [3]", "views must be a str. Received: 3"),
        ("stream: [1]", "stream must be a bool. Received: 1"),
        ("exclude_seen: [true, false]", "one value, or trials could not be compared"),
        ("validation_users: {min: 1, max: 9}", "validation_users must be one value"),
        ("validation_users: few", "validation_users must be a whole number. Received"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, message) -> None:
    # The brackets stand for themselves, the dots and stars do not.
    pattern = re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(InvalidValueError, match=f"(?s){pattern}"):
        read(tmp_path, text)


def test_no_file(tmp_path) -> None:
    with pytest.raises(NotFoundError, match="ranges must be a YAML file. Received"):
        SearchSpace.read(tmp_path / "none.yaml")
