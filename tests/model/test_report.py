"""The training report, of real runs, read back as a browser would."""

import dataclasses
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from adaptiverec.common.errors import (
    ContractError,
    InvalidValueError,
    NotFoundError,
    OutputError,
)
from adaptiverec.model.prepared_data import PreparedData
from adaptiverec.model.report import report

VOID = {"meta", "link", "br", "img", "hr", "input"}
ALL = ["Losses and measures by epoch", "Measures of the validation targets"]
ALL += ["Adaptive thresholds", "In-batch similarities", "Alignment and uniformity"]
ALL += ["Embeddings", "Some users", "Configuration and data"]


class Page(HTMLParser):
    """The tags, the text and the headings of a page whose tags must nest."""

    def __init__(self, path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts, self.headings = [], [], [], []
        self._open: list[str] = []
        self.source = Path(path).read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self._open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self._open.pop() == tag

    def handle_startendtag(self, tag, attrs) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_data(self, data) -> None:
        if "style" not in self._open:
            self.texts.append(data)
        if self._open and self._open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture(scope="module")
def page(run_path, tmp_path_factory) -> Page:
    path = tmp_path_factory.mktemp("report") / "page.html"
    assert report(str(run_path), output=str(path)) == str(path)
    return Page(path)


def test_every_section_is_there(page) -> None:
    assert page.headings == ALL


def test_the_page_needs_nothing_else(page) -> None:
    assert not {"script", "img", "link", "iframe", "object"} & set(page.tags)
    assert "default-src 'none'" in page.source
    for _, name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith("#")
    assert "url(" not in page.source.replace("url(#", "")


def test_every_picture_says_what_it_shows(page) -> None:
    pictures = page.tags.count("svg")
    assert pictures == 12
    assert page.source.count('role="img"') == pictures
    identities = [value for _, name, value in page.attributes if name == "id"]
    assert len(identities) == len(set(identities))
    labels = [value for _, name, value in page.attributes if name == "aria-labelledby"]
    for identity in " ".join(labels).split():
        assert identity in identities


def test_figures_are_those_of_the_run(page, run_path) -> None:
    record = json.loads((run_path / "run.json").read_text())
    best = record["best"]
    # Ranked anew, by the model that was kept.
    row = re.search(r"this model kept (\S+) \S+ to \S+ (\S+) ", page.text)
    assert row is not None
    assert row.groups() == (
        f"{best['val_recall@10']:.4f}",
        f"{best['val_ndcg@10']:.4f}",
    )
    assert record["data"]["fingerprint"] in page.text
    assert f"{record['best_epoch']} (best)" in page.text
    for name in record["configuration"]:
        assert name in page.text


def test_cohorts_are_of_what_they_are_called(run_path, prepared_path) -> None:
    from adaptiverec.common.progress import steps
    from adaptiverec.model.instances import Instances
    from adaptiverec.model.report_ranking import ranking_sections
    from adaptiverec.model.run import Run

    run = Run.open(run_path)
    prepared = PreparedData.open(str(prepared_path))
    with steps(stream=io.StringIO()) as shown:
        sections = ranking_sections(
            run.load_model(), run, prepared, "validation", shown
        )
    sequences = prepared.sequences()
    instances = Instances.of(sequences, "validation")
    lengths = instances.targets - instances.starts
    popularity = run.popularity()[sequences.items[instances.targets] - 1]
    assert set(lengths) != set(popularity)
    by_length, by_popularity = sections["cohorts"]
    for section, keys, word in (
        (by_length, lengths, "length"),
        (by_popularity, popularity, "popularity"),
    ):
        assert word in section["title"]
        # Such as ("1 to 4", "1,234", …).
        rows = [[text.replace(",", "") for text in row[:2]] for row in section["rows"]]
        ends = [[int(end) for end in label.split(" to ")] for label, _ in rows]
        assert (ends[0][0], ends[-1][-1]) == (min(keys), max(keys))
        counts = [int(count) for _, count in rows]
        assert sum(counts) == len(instances)
        assert counts[0] == np.sum(keys <= ends[0][-1])


def test_users_are_recommended_what_the_model_ranks_first(
    run_path, prepared_path
) -> None:
    from adaptiverec.model.instances import Instances
    from adaptiverec.model.report_users import users_section
    from adaptiverec.model.run import Run

    model = Run.open(run_path).load_model()
    prepared = PreparedData.open(str(prepared_path))
    sequences = prepared.sequences()
    instances = Instances.of(sequences, "validation")
    # As if only the first of them had been found.
    ranks = np.where(np.arange(len(instances)) == 0, 3.0, 50.5)
    shown = users_section(
        model, sequences, "validation", prepared.vocabulary, ranks, seed=0
    )
    assert [user["at_random"] for user in shown] == [True] * 4 + [False]
    assert [user["rank"] for user in shown[-1:]] == ["3"]
    place = {item: number for number, item in enumerate(prepared.vocabulary, start=1)}
    end, start = instances.targets[0], instances.starts[0]
    history = sequences.items[start:end]
    assert [place[item] for item in shown[-1]["history"]] == history[-12:].tolist()
    assert place[shown[-1]["target"]] == sequences.items[end]
    seen = history[-model.max_length :]
    padded = np.zeros((1, model.max_length), np.int32)
    padded[0, : len(seen)] = seen
    scores = model.predict(padded, verbose=0)[0]
    scores[history] = -np.inf
    best = np.argsort(-scores)[:10]
    assert [place[item] for item, _ in shown[-1]["recommended"]] == best.tolist()


def stopped(run_path: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(run_path, tmp_path / "run"))
    for name in ("model.keras", "history.json"):
        (copy / name).unlink()
    record = json.loads((copy / "run.json").read_text())
    record = {**record, "status": "training"}
    for name in ("best", "best_epoch", "epochs", "finished"):
        del record[name]
    (copy / "run.json").write_text(json.dumps(record))
    return copy


def test_a_run_that_was_stopped(run_path, tmp_path) -> None:
    copy = stopped(run_path, tmp_path)
    found = Page(report(str(copy)))
    assert found.headings == ALL
    assert "The training has not come to its end" in found.text


def test_a_run_that_has_no_epoch(run_path, tmp_path) -> None:
    copy = stopped(run_path, tmp_path)
    shutil.rmtree(copy / "checkpoints")
    shutil.rmtree(copy / "diagnostics")
    found = Page(report(str(copy)))
    assert found.headings == ["Configuration and data"]
    assert "No epoch has ended" in found.text
    assert "no epoch yet" in found.text
    assert "no validation targets" not in found.text


def test_data_that_is_gone_or_another(run_path, tmp_path, prepared_path) -> None:
    copy = Path(shutil.copytree(run_path, tmp_path / "run"))
    record = json.loads((copy / "run.json").read_text())
    record["data"]["path"] = str(tmp_path / "gone")
    (copy / "run.json").write_text(json.dumps(record))
    found = Page(report(str(copy)))
    assert "is no longer where it was" in found.text
    assert not {"Some users", "Measures of the validation targets"} & set(
        found.headings
    )
    assert "Embeddings" in found.headings
    with pytest.raises(NotFoundError, match="prepared data must be a directory"):
        report(str(copy), data=str(tmp_path / "gone"))
    record["data"]["fingerprint"] = "0" * 64
    (copy / "run.json").write_text(json.dumps(record))
    with pytest.raises(ContractError, match="must be what the run was trained on"):
        report(str(copy), data=str(prepared_path))


def test_ids_are_shown_as_text(run_path, tmp_path, monkeypatch) -> None:
    really_open = PreparedData.open

    def with_hostile_ids(path):
        prepared = really_open(path)
        ids = [f"<script>alert({i})</script>\u202e" for i in range(prepared.num_items)]
        return dataclasses.replace(prepared, vocabulary=ids)

    monkeypatch.setattr(PreparedData, "open", staticmethod(with_hostile_ids))
    found = Page(report(str(run_path), output=str(tmp_path / "page.html")))
    assert "script" not in found.tags
    assert "<script>alert(" in found.text
    assert "\u202e" not in found.source
    assert "\\u202e" in found.text


def test_bad_arguments(run_path, tmp_path) -> None:
    with pytest.raises(InvalidValueError, match="part must be one of .*'train'"):
        report(str(run_path), part="train")
    with pytest.raises(NotFoundError, match="must be a directory made by"):
        report(str(tmp_path))
    with pytest.raises(OutputError, match="must be a file, whose directory must exist"):
        report(str(run_path), output=str(tmp_path / "none" / "page.html"))
