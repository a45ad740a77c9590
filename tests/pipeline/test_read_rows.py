"""The first step of the job, in a pipeline; and the rows that it sets aside."""

import gzip
import inspect
import itertools
import json

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.pipeline import hashing, prepare
from adaptiverec.pipeline.input_files import find_files, split_into_ranges
from adaptiverec.pipeline.job import EXAMPLES, TALLY, Job, add_up
from adaptiverec.pipeline.options import PrepareOptions
from adaptiverec.pipeline.output_files import Places
from adaptiverec.pipeline.read_rows import ReadRows
from adaptiverec.pipeline.reject import KeepExamples, Rejects, examples_of
from adaptiverec.pipeline.shuffle import Shuffle

DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(prepare).parameters.items()
}


def run(directory, checks, paths, block_bytes=40, **given):
    columns = {"user_column": "user", "item_column": "item", "time_column": "time"}
    files = {"input": paths, "output": "out"}
    options = PrepareOptions.checked(**{**DEFAULTS, **columns, **files, **given})
    (directory / "out").mkdir()
    (directory / "out" / ".work").mkdir()
    (directory / "out" / "rejected").mkdir()
    job = Job(options, Places(str(directory / "out")), Shuffle(None), 4, block_bytes)
    parts = [
        part
        for file in find_files(options)
        for part in split_into_ranges(file, block_bytes)
    ]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        read = (
            pipeline
            | beam.Create(parts)
            | beam.ParDo(ReadRows(job)).with_outputs(TALLY, EXAMPLES, main="rows")
        )
        tally = read[TALLY] | "AddUp" >> beam.CombineGlobally(add_up)
        examples = read[EXAMPLES] | "Keep" >> beam.CombineGlobally(KeepExamples())
        rows = read.rows | beam.FlatMap(
            lambda pair: [
                (pair[0], *row.values())
                for row in Shuffle(None).get(pair[1]).to_pylist()
            ]
        )
        for name, found in (("rows", rows), ("tally", tally), ("examples", examples)):
            assert_that(found, equal_to(checks[name]), label=name)


def test_rows_tallies_and_examples(tmp_path, log):
    good = [(f"u{n % 7}", f"i{n}", n) for n in range(40)]
    bad = [f",i{n},{n}" for n in range(5)] + ["u,i,soon"]
    lines = [f"{user},{item},{time}" for user, item, time in good]
    lines[3:3], lines[20:20] = bad[:4], bad[4:]
    text = "user,item,time\n" + "\n".join(lines)
    path = log(text, "b.csv")
    other = log("user,item,time\n,z,1\n", "a.csv")
    # The partition of a user is a matter of hashes, tested there.
    users = [user for user, _, _ in good]
    partitions = hashing.partition_of(hashing.hash_strings(pa.array(users)), 4).tolist()
    examples = {
        "time is not a number": [
            {"file": path, "offset": text.index("u,i,soon"), "row": "u,i,soon"}
        ],
        "user is missing": [
            {"file": other, "offset": 15, "row": ",z,1"},
            {"file": path, "offset": text.index("\n,i0,0") + 1, "row": ",i0,0"},
            {"file": path, "offset": text.index("\n,i1,1") + 1, "row": ",i1,1"},
        ],
    }
    tally = {
        "rows_read": 47,
        "rejected: user is missing": 6,
        "rejected: time is not a number": 1,
    }
    rows = [
        (partition, user, item, time * 1_000_000)
        for partition, (user, item, time) in zip(partitions, good, strict=True)
    ]
    checks = {"rows": rows, "tally": [tally], "examples": [examples]}
    run(tmp_path, checks, [path, other])
    written = [
        json.loads(line)
        for file in sorted((tmp_path / "out" / "rejected").iterdir())
        for line in file.read_text().splitlines()
    ]
    assert len(written) == 7
    assert written[0] == {
        "file": other,
        "offset": 15,
        "reason": "user is missing",
        "row": ",z,1",
    }


def test_a_damaged_file_is_counted_as_such(tmp_path, log):
    rows = "".join(f"u{n * 7919 % 997},i{n * 31 % 101},{n}\n" for n in range(60_000))
    data = gzip.compress(b"user,item,time\n" + rows.encode())
    path = log(data[: len(data) - 9], "log.csv.gz")
    columns = {"user_column": "user", "item_column": "item", "time_column": "time"}
    files = {"input": [path], "output": "out"}
    options = PrepareOptions.checked(**{**DEFAULTS, **columns, **files})
    step = ReadRows(Job(options, Places(str(tmp_path)), Shuffle(None), 1, 1 << 20))
    step.setup()
    (file,) = find_files(options)
    (part,) = split_into_ranges(file, 1 << 20)
    *_, last = step.process(part)
    assert last.tag == TALLY
    (damaged,) = (key for key in last.value if key != "rows_read")
    assert damaged == f"damaged: {path} (Truncated compressed stream)"


def test_long_rows_are_cut_in_examples():
    long = Rejects([0], ["user is missing"], ["a" * 500])
    ((example,),) = examples_of("log", long).values()
    assert example["row"] == "a" * 197 + "..."


@pytest.mark.parametrize("reasons", [["a"], ["a", "b"]])
@given(offsets=st.lists(st.integers(0, 50), unique=True, max_size=12), data=st.data())
def test_examples_do_not_depend_on_the_bundling(reasons, offsets, data):
    rows = [
        {"file": f"f{offset % 2}", "offset": offset, "row": str(offset)}
        for offset in offsets
    ]
    elements = [{reasons[row["offset"] % len(reasons)]: [row]} for row in rows]
    elements = data.draw(st.permutations(elements))
    combine = KeepExamples()
    accumulators = []
    while elements:
        size = data.draw(st.integers(1, len(elements)))
        accumulator = combine.create_accumulator()
        for element in elements[:size]:
            accumulator = combine.add_input(accumulator, element)
        accumulators.append(accumulator)
        elements = elements[size:]
    merged = combine.merge_accumulators(iter(accumulators))
    expected = {}
    for reason, found in itertools.groupby(
        sorted(
            rows,
            key=lambda row: (row["offset"] % len(reasons), row["file"], row["offset"]),
        ),
        key=lambda row: reasons[row["offset"] % len(reasons)],
    ):
        expected[reason] = list(found)[:3]
    assert combine.extract_output(merged) == expected
