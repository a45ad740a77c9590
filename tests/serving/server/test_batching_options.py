from __future__ import annotations

import os
from pathlib import Path

import pytest

from adaptiverec.common.errors import InvalidValueError, NotFoundError
from adaptiverec.serving.batching_options import BatchingOptions, read_batching_options


@pytest.fixture
def read(tmp_path: Path):
    def read_text(text: str) -> BatchingOptions:
        file = tmp_path / "batching.pbtxt"
        file.write_text(text)
        return read_batching_options(file)

    return read_text


def test_the_defaults_are_those_of_tensorflow_serving(read):
    options = read("")
    assert options == BatchingOptions(
        max_batch_size=1000,
        batch_timeout_micros=0,
        max_enqueued_batches=10,
        num_batch_threads=os.cpu_count() or 1,
        thread_pool_name="batch_threads",
        allowed_batch_sizes=(),
        pad_variable_length_inputs=False,
        enable_large_batch_splitting=False,
    )
    assert read_batching_options(None).thread_pool_name == "model_server_batch_threads"


def test_the_file_of_the_documentation_is_read(read):
    options = read("""
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 500 }
        max_enqueued_batches { value: 1000000 }
        num_batch_threads { value: 8 }
        thread_pool_name { value: "mine" }
        allowed_batch_sizes: 8
        allowed_batch_sizes: [32, 128]  # both forms
        pad_variable_length_inputs: true
    """)
    assert options.max_batch_size == 128
    assert options.batch_timeout_micros == 500
    assert options.max_enqueued_batches == 1_000_000
    assert options.num_batch_threads == 8
    assert options.thread_pool_name == "mine"
    assert options.allowed_batch_sizes == (8, 32, 128)
    assert options.pad_variable_length_inputs
    assert [options.padded_size(rows) for rows in (1, 8, 9, 32, 33, 128)] == [
        8,
        8,
        32,
        32,
        128,
        128,
    ]


def test_large_batches_are_split_down_to_a_size_of_their_own(read):
    options = read("""
        max_batch_size { value: 100 }
        enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 10 }
    """)
    assert options.row_limit == 10
    assert read("max_batch_size { value: 100 }").row_limit == 100
    assert read("max_batch_size { value: 2000 }").row_limit == 2000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size must be positive"),
        ("num_batch_threads { value: -1 }", "num_batch_threads must be positive"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-neg"),
        ("max_enqueued_batches { value: -1 }", "max_enqueued_batches must be non-neg"),
        (
            "max_batch_size { value: 16 } allowed_batch_sizes: 8",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            "8; expected 16",
        ),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: [4, 4, 8]",
            "must be positive and increasing",
        ),
        (
            "max_batch_size { value: 8 } enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 9 }",
            "max_execution_batch_size must not be above max_batch_size",
        ),
        (
            "max_enqueued_batches { value: 0 } enable_large_batch_splitting "
            "{ value: true }",
            "must be positive with enable_large_batch_splitting",
        ),
        ("max_batch_sise { value: 8 }", 'no field named "max_batch_sise"'),
        ("max_batch_size: 8", "BatchingParameters in protobuf's text form"),
    ],
)
def test_a_value_outside_its_rule_is_refused(read, text, message):
    with pytest.raises(InvalidValueError) as caught:
        read(text)
    assert message in str(caught.value)
    assert "Received: " in str(caught.value)
    assert "batching.pbtxt" in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="batching_parameters_file .*nothing.pbtxt"):
        read_batching_options(tmp_path / "nothing.pbtxt")
    with pytest.raises(InvalidValueError, match="Is a directory"):
        read_batching_options(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidValueError, match="not UTF-8"):
        read_batching_options(tmp_path / "binary")
