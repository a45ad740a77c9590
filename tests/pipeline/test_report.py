"""The data report, read back as a browser would: by its structure and its text."""

import copy
import re
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptiverec.common import report_text as text
from adaptiverec.pipeline import report_statistics as statistics
from adaptiverec.pipeline.report import render_report

VOID = {"meta", "link", "br", "img", "hr", "input"}
HOUR = 3_600
# 2024-01-01T00:00:00Z in hours.
NEW_YEAR = 473_352


class Page(HTMLParser):
    """The tags in their order, the text, and a complaint where they do not nest."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts, self.ids = [], [], [], []
        self._open = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_data(self, data):
        if "style" not in self._open:
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture
def metadata():
    return {
        "schema_version": 1,
        "producer": "adaptiverec 9.8.7",
        "num_users": 1_203,
        "num_items": 457,
        "num_interactions": 36_090,
        "num_train_instances": 32_481,
        "num_validation_instances": 1_199,
        "num_test_instances": 1_207,
        "num_users_without_targets": 1_013,
        "rejected": 1_111,
        "rejected_by_reason": {"user is missing": 1_109, "time is not a number": 2},
        "filtered_by_rule": {"event_types": 2_221, "min_rating": 3},
        "counts": {
            "rows_read": 45_655,
            "rejected": 1_111,
            "filtered": 2_224,
            "duplicates": 3_331,
            "repeats": 441,
            "over_max_user_interactions": 551,
            "below_min_interactions": 1_907,
            "kept": 36_090,
        },
        "time_range": {
            "first": "2024-01-01T00:10:00Z",
            "last": "2024-01-05T23:50:00Z",
        },
        "split": {
            "method": "time",
            "validation_start": "2024-01-04T12:00:00Z",
            "test_start": "2024-01-05T06:00:00Z",
        },
        "sequence_length": {"min": 5, "mean": 30.0, "max": 717},
        "configuration": {
            "input": ["logs/*.csv"],
            "time_column": "time",
            "max_user_interactions": 717,
            "min_user_interactions": 5,
            "min_item_interactions": 6,
            "repeats": "collapse",
            "base_vocabulary": None,
            "beam_options": [],
            "max_rejected_fraction": 0.125,
            "header": True,
        },
        "input_files": [
            {"path": "logs/a.csv", "bytes": 1_234_567},
            {"path": "logs/b.csv", "bytes": 89},
        ],
        "vocabulary": {
            "file": "vocabulary.txt",
            "size": 463,
            "sha256": "5ha-of-vocabulary",
            "base": {"size": 461},
        },
        "shards": [
            {
                "file": "sequences-00000-of-00001.tfrecord",
                "num_users": 1_203,
                "sha256": "5ha-of-shard",
            }
        ],
        "fingerprint": "f1n6erpr1n7",
    }


@pytest.fixture
def details():
    hours = range(NEW_YEAR, NEW_YEAR + 120)
    return {
        "sequence_lengths": {5: 600, 9: 400, 50: 200, 717: 3},
        "activity": {
            "bin_seconds": HOUR,
            "bins": {hour: 1 + hour % 24 for hour in hours},
        },
        "popularity": np.sort(np.arange(6, 463))[::-1].astype(np.int64),
        "rejected_examples": {
            "user is missing": [{"file": "logs/a.csv", "offset": 18_017, "row": ",x,5"}]
        },
    }


@pytest.fixture
def rejecting(metadata, details):
    """Renders with one example of a rejected row, and gives the page of it."""

    def render(row, file="logs/a.csv", reason="user is missing"):
        metadata["rejected_by_reason"] = {reason: 1_111}
        details["rejected_examples"] = {
            reason: [{"file": file, "offset": 0, "row": row}]
        }
        html = render_report(metadata, details)
        # What the driver does with it.
        html.encode("utf-8")
        return html, Page(html)

    return render


def svgs(html):
    return [
        ElementTree.fromstring(found)
        for found in re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    ]


def leaves(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


def test_the_page_is_well_formed_and_accessible(metadata, details):
    html = render_report(metadata, details)
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>\n<html lang=")
    assert len(page.ids) == len(set(page.ids))
    pictures = svgs(html)
    assert len(pictures) == 3
    for picture in pictures:
        assert picture.get("role") == "img"
        title, description = picture.get("aria-labelledby").split()
        assert picture.find("title").get("id") == title
        assert picture.find("desc").get("id") == description
        assert picture.find("title").text
        assert picture.find("desc").text
        # What is referred to is there, under a name of this picture's own.
        ids = {element.get("id") for element in picture.iter()}
        used = re.findall(r"#([\w.-]+)", ElementTree.tostring(picture, "unicode"))
        assert set(used) <= ids
        # No colour is fixed: all are the page's, light or dark.
        assert "#0000" not in ElementTree.tostring(picture, "unicode")
    labelled = {
        value for _, name, value in page.attributes if name == "aria-labelledby"
    }
    assert {part for value in labelled for part in value.split()} <= set(page.ids)
    # Each picture has its figures in a table beside it.
    assert page.tags.count("figure") == page.tags.count("figcaption") == 3
    assert page.tags.count("table") == page.tags.count("caption")


def test_nothing_is_fetched_and_nothing_runs(metadata, details):
    html = render_report(metadata, details)
    page = Page(html)
    assert "http://" not in html
    assert "https://" not in html
    assert "//" not in re.sub(r"<!--.*?-->", "", html)
    assert "@import" not in html
    assert all(found.startswith("#") for found in re.findall(r"url\((.*?)\)", html))
    for _, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "srcset", "data", "poster", "action"):
            assert value.startswith("#")
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    # And a policy that forbids it, should a row ever get through.
    assert "default-src 'none'" in html


def test_all_figures_of_the_metadata_are_there(metadata, details):
    page = Page(render_report(metadata, details))
    for value in leaves(metadata):
        if value is None:
            continue
        if isinstance(value, bool):
            shown = str(value).lower()
        else:
            shown = f"{value:,}" if isinstance(value, int) else str(value)
        assert shown in page.text, value


def test_the_funnel_adds_up(metadata, details):
    page = Page(render_report(metadata, details))
    assert "Kept 36,090 of 45,655 rows (79.0 %)" in page.text.replace("\xa0", " ")
    assert "1,111 + 2,224 + 3,331 + 441 + 551 + 1,907 + 36,090 = 45,655" in page.text
    assert "Every row is accounted for" in page.text
    # Left after each step: 45,655 - 1,111 = 44,544, and so on.
    for left in ("44,544", "42,320", "38,989", "38,548", "37,997"):
        assert left in page.text
    # 1,111 / 45,655 = 2.43 %; 441 / 45,655 = 0.966 %.
    assert "2.4\xa0%" in "".join(page.texts)
    assert "0.97\xa0%" in "".join(page.texts)


@pytest.mark.parametrize(
    "wrong",
    [
        {"counts": {"kept": 36_089}},
        {"rejected_by_reason": {"user is missing": 1_108}},
        {"filtered_by_rule": {"min_rating": 4}},
    ],
)
def test_a_funnel_that_does_not_add_up_says_so(metadata, details, wrong):
    for name, change in wrong.items():
        metadata[name].update(change)
    page = Page(render_report(metadata, details))
    assert "The counts do not add up" in page.text
    assert "Every row is accounted for" not in page.text


def test_same_in_same_out(metadata, details):
    first = render_report(metadata, details)
    other = copy.deepcopy(details)
    # As JSON would have given them back, and in another order.
    lengths = other["sequence_lengths"]
    other["sequence_lengths"] = {str(n): lengths[n] for n in reversed(lengths)}
    bins = other["activity"]["bins"]
    other["activity"]["bins"] = {str(n): bins[n] for n in reversed(bins)}
    assert render_report(copy.deepcopy(metadata), other) == first


def test_same_out_whatever_the_process(tmp_path):
    # Hash seeds, time zones and a user's own matplotlibrc must not show.
    code = (
        "import hashlib, numpy as np\n"
        "from adaptiverec.pipeline.report_charts import *\n"
        "from adaptiverec.pipeline.report_statistics import *\n"
        "s = draw_lengths(of_lengths({3: 5, 40: 2}), 't', 'd')\n"
        "s += draw_popularity(of_popularity(np.array([30, 8, 5, 1])), 't', 'd')\n"
        f"a = group_activity({HOUR}, {{{NEW_YEAR}: 4, {NEW_YEAR + 500}: 3}})\n"
        f"s += draw_activity(a, [('test', {(NEW_YEAR + 99) * HOUR})], 't', 'd')\n"
        "print(hashlib.sha256(s.encode()).hexdigest())"
    )
    (tmp_path / "matplotlibrc").write_text(
        "font.size: 30\naxes.facecolor: red\nsvg.fonttype: path\ntimezone: Asia/Tokyo\n"
    )
    found = set()
    for seed, zone, directory in (("1", "UTC", "/"), ("2", "Asia/Tokyo", tmp_path)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            cwd=directory,
            env={
                "PYTHONHASHSEED": seed,
                "TZ": zone,
                "MPLCONFIGDIR": str(tmp_path / "cache"),
            },
        )
        found.add(done.stdout)
    assert len(found) == 1


def test_the_settings_of_matplotlib_are_left_alone(metadata, details):
    import matplotlib as mpl

    def settings():
        # To ask for the backend would choose one, by importing pyplot.
        return {name: mpl.rcParams[name] for name in mpl.rcParams if name != "backend"}

    before, imported = settings(), set(sys.modules)
    render_report(metadata, details)
    assert settings() == before
    assert "matplotlib.pyplot" not in set(sys.modules) - imported


@pytest.mark.parametrize(
    "row",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</span></div></details><style>*{display:none}</style>",
        "<svg onload=alert(1)>",
        "<!--",
        "]]>",
        "&lt;b&gt; &amp;",
        "{{ 7 * 7 }} {% for x in y %}",
        "$E = mc^2$ \\frac",
        "javascript:alert(1)",
    ],
)
def test_markup_in_a_row_is_text(rejecting, row):
    plain = rejecting("plain")[1]
    _, page = rejecting(row)
    assert row in page.texts
    assert page.tags == plain.tags
    # Names of files and reasons come from outside too.
    _, page = rejecting("plain", file=f"logs/{row}.csv", reason=row)
    assert page.tags == plain.tags
    assert row in page.texts


def test_what_cannot_be_seen_is_shown(rejecting):
    html, page = rejecting(
        "a\x00\x1b[31m\u202eevil\u2066\u200b\ufeff\ud800\U000e0041\t,\x85"
    )
    expected = r"a\u0000\u001b[31m\u202eevil\u2066\u200b\ufeff\ud800\U000e0041\t,\u0085"
    assert expected in page.texts
    for character in "\x00\x1b\u202e\u2066\u200b\ufeff\x85":
        assert character not in html


def test_letters_of_any_script_stay(rejecting):
    row = "שלום,مرحبا,你好,Ünïcode,😀"
    assert row in rejecting(row)[1].texts


def test_a_long_row_is_cut(rejecting):
    html, page = rejecting("<" * 1_000_000)
    assert len(html) < 300_000
    assert "<" * 300 + " \u2026 (999,700 characters more)" in page.texts


@given(st.text(st.characters(), max_size=40))
def test_visible_text_can_be_encoded_and_seen(row):
    shown = text.visible(row)
    shown.encode("utf-8")
    categories = {unicodedata.category(character) for character in shown}
    assert not categories & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def minimal(metadata, **changes):
    metadata.update(
        num_users=1,
        num_items=1,
        num_interactions=1,
        num_train_instances=0,
        num_validation_instances=0,
        num_test_instances=0,
        num_users_without_targets=1,
        rejected=0,
        rejected_by_reason={},
        filtered_by_rule={},
        time_range=None,
        split={"method": "leave-one-out"},
        sequence_length={"min": 1, "mean": 1.0, "max": 1},
        counts={**dict.fromkeys(metadata["counts"], 0), "rows_read": 1, "kept": 1},
        **changes,
    )
    return metadata, {
        "sequence_lengths": {1: 1},
        "activity": None,
        "popularity": np.array([1]),
        "rejected_examples": {},
    }


def test_one_user_one_item_no_times_no_rejects(metadata):
    html = render_report(*minimal(metadata))
    page = Page(html)
    assert "Kept 1 of 1 row (100 %): 1 user and 1 item." in page.text.replace(
        "\xa0", " "
    )
    assert "The log has no times" in page.text
    assert "no times" in page.text
    assert "None." in page.text
    assert len(svgs(html)) == 2


@pytest.mark.parametrize(
    "bins",
    [
        {NEW_YEAR: 1},
        {NEW_YEAR: 5, NEW_YEAR + 1: 0},
        {0: 1, NEW_YEAR: 10**15},
        # Beyond the dates that ISO 8601 and Python know.
        {-(10**10): 1, 2_562_047_788: 3},
        {-17_259_889: 1, 70_389_500: 1},
    ],
)
def test_odd_times(metadata, bins):
    metadata, details = minimal(metadata)
    metadata["time_range"] = {
        "first": "-99999999999999999 us",
        "last": "1970-01-01T00:00:00Z",
    }
    details["activity"] = {"bin_seconds": HOUR, "bins": bins}
    html = render_report(metadata, details)
    Page(html)
    assert len(svgs(html)) == 3


def test_points_outside_the_times_are_not_drawn(metadata, details):
    def words(html):
        return "".join(svgs(html)[2].itertext())

    assert "validation" in words(render_report(metadata, details))
    metadata["split"]["validation_start"] = "1999-01-01T00:00:00Z"
    metadata["split"]["test_start"] = "2222-01-01T00:00:00Z"
    html = render_report(metadata, details)
    assert "validation" not in words(html)
    assert "2222-01-01T00:00:00Z" in Page(html).text


def test_huge_counts_and_long_lists_make_a_small_page(metadata, details):
    big = 10**15
    metadata["num_users"] = metadata["num_interactions"] = big
    metadata["counts"] = {"rows_read": 2 * big, "rejected": big, "kept": big}
    metadata["rejected_by_reason"] = {f"reason {n}": big // 1000 for n in range(1000)}
    del metadata["filtered_by_rule"]
    metadata["input_files"] = [
        {"path": f"{n}.csv", "bytes": big} for n in range(20_000)
    ]
    metadata["shards"] *= 10_000
    metadata["configuration"]["input"] = [f"{n}.csv" for n in range(20_000)]
    details["sequence_lengths"] = {n: big // n for n in range(1, 100_000)}
    details["popularity"] = (big // np.arange(1, 500_001)).astype(np.int64)
    details["rejected_examples"] = {
        reason: [{"file": "f", "offset": 0, "row": "x" * 10_000}] * 50
        for reason in metadata["rejected_by_reason"]
    }
    html = render_report(metadata, details)
    page = Page(html)
    assert "Every row is accounted for" in page.text
    assert "19,950 more, in metadata.json" in page.text
    assert len(html.encode()) < 300_000


def test_items_of_a_base_vocabulary_that_do_not_occur(metadata, details):
    details["popularity"] = np.array([8, 1, 1, 0, 0])
    page = Page(render_report(metadata, details))
    assert "items that do not occur 2" in page.text
    assert "items that occur once 2" in page.text


def test_details_that_are_empty_leave_their_sections_out(metadata, details):
    details.update(sequence_lengths={}, popularity=np.zeros(3, np.int64))
    details["activity"]["bins"] = {}
    assert svgs(render_report(metadata, details)) == []


def test_statistics_of_lengths_by_hand():
    # 1 1 1 2 3 3 7 30 60 110
    found = statistics.of_lengths({60: 1, 1: 3, 2: 1, 3: 2, 7: 1, 30: 1, 110: 1})
    assert found.quantiles == [(10, 1), (25, 1), (50, 3), (75, 30), (90, 60), (99, 110)]
    assert found.buckets == [
        (1, 1, 3),
        (2, 4, 3),
        (5, 9, 1),
        (10, 19, 0),
        (20, 49, 1),
        (50, 99, 1),
        (100, 199, 1),
    ]
    # Beyond the newest 20: 10 of 30, 40 of 60, 90 of 110.
    assert found.cuts == [(20, 3, 140), (50, 2, 70), (100, 1, 10), (200, 0, 0)]
    assert found.curve[:3] == [(1, 10), (2, 7), (3, 6)]
    assert found.curve[-1] == (110, 1)
    assert (found.num_users, found.num_interactions) == (10, 218)


@given(st.dictionaries(st.integers(1, 3_000), st.integers(1, 40), min_size=1))
def test_statistics_of_lengths_by_listing_users(users_by_length):
    users = sorted(n for n, count in users_by_length.items() for _ in range(count))
    found = statistics.of_lengths(users_by_length)
    for percent, length in found.quantiles:
        # NumPy's own definition of the inverted distribution.
        assert length == np.percentile(users, percent, method="inverted_cdf")
    assert sum(count for _, _, count in found.buckets) == len(users)
    for least, most, count in found.buckets:
        assert count == sum(least <= n <= most for n in users)
    assert all(count == sum(n >= x for n in users) for x, count in found.curve)


def test_statistics_of_popularity_by_hand():
    found = statistics.of_popularity(np.array([6, 3, 1, 0]))
    assert found.top == [(1, 1, 6), (10, 1, 6), (20, 1, 6)]
    # Half the mean difference of all pairs over the mean:
    # (3 + 5 + 2) * 2 / 9 / 2 / (10 / 3) = 1 / 3.
    assert found.gini == pytest.approx(1 / 3)
    assert (found.most, found.median, found.num_items) == (6, 3, 3)
    assert (found.num_unseen, found.num_once, found.num_interactions) == (1, 1, 10)
    assert found.curve == [(1, 6), (2, 3), (3, 1)]


@given(st.lists(st.integers(1, 1_000), min_size=1, max_size=60))
def test_gini_by_all_pairs(counts):
    counts = np.sort(np.array(counts, np.int64))[::-1]
    differences = np.abs(counts[:, None] - counts[None, :]).mean()
    found = statistics.of_popularity(counts)
    assert found.gini == pytest.approx(differences / 2 / counts.mean(), abs=1e-12)


def test_activity_is_grouped_to_spans_one_thinks_in():
    week = {NEW_YEAR + n: 1 for n in range(7 * 24)}
    found = statistics.group_activity(HOUR, week)
    assert (found.span, found.counts) == ("1 hour", [1] * 168)
    assert found.start == NEW_YEAR * HOUR
    year = {NEW_YEAR + n: 1 for n in range(365 * 24)}
    found = statistics.group_activity(HOUR, year)
    assert found.span == "7 days"
    # Spans begin with 1970-01-01, a Thursday; the year 2024 began on a Monday.
    assert found.counts[0] == 3 * 24
    assert set(found.counts[1:-1]) == {7 * 24}


def test_the_busiest_time_and_the_longest_gap():
    found = statistics.group_activity(60, {100: 1, 103: 9, 110: 2})
    assert (found.span, found.busiest, found.longest_gap) == ("1 minute", 3, 6 * 60)
    assert found.counts == [1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 2]


@given(
    st.sampled_from([1, 7, 60, 900, 3_600, 5_000, 86_400]),
    st.dictionaries(st.integers(-(10**12), 10**12), st.integers(1, 99), min_size=1),
)
def test_grouping_loses_nothing(bin_seconds, bins):
    found = statistics.group_activity(bin_seconds, bins)
    assert sum(found.counts) == sum(bins.values())
    assert len(found.counts) <= 200
    assert found.span_seconds % bin_seconds == 0
    for number, count in bins.items():
        place = (number * bin_seconds - found.start) // found.span_seconds
        assert found.counts[place] >= count


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 10, "0 %"),
        (10, 10, "100 %"),
        (1, 3, "33.3 %"),
        (1, 10**9, "<\u202f0.01 %"),
        (10**9 - 1, 10**9, ">\u202f99.99 %"),
        (1, 1_000, "0.10 %"),
        (999, 1_000, "99.90 %"),
        (0, 0, "0 %"),
    ],
)
def test_percent(part, whole, expected):
    assert text.percent(part, whole) == expected.replace(" %", "\xa0%")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (90, "1.5 minutes"),
        (7_200, "2 hours"),
        (86_400, "24 hours"),
        (5 * 86_400, "5 days"),
        (4 * 31_557_600, "4 years"),
    ],
)
def test_a_length_of_time(seconds, expected):
    assert text.in_words(seconds) == expected.replace(" ", "\xa0")


@pytest.mark.parametrize("days", [0.01, 0.1, 1, 2.5, 31, 62, 89, 400, 1_000, 5_000])
def test_activity_over_any_time_has_ticks(days):
    from adaptiverec.pipeline.report_charts import draw_activity

    minutes = round(days * 24 * 60)
    bins = {NEW_YEAR * 60 + minute: 1 for minute in {0, minutes // 3, minutes}}
    # A warning of matplotlib's would fail the test.
    svg = draw_activity(statistics.group_activity(60, bins), [], "t", "d")
    assert svg.count("<text") >= 5
