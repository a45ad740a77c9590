"""The quality benchmark: its order of ties, its candidates, its test, its queue."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

QUALITY = Path(__file__).parents[1] / "benchmarks" / "quality"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    # They are scripts, which find each other beside themselves.
    monkeypatch.syspath_prepend(str(QUALITY))


def test_ties_stand_in_the_order_of_items_as_in_published_data():
    from published_order import add_ranks

    log = ["asin,user,time,stars\n"]
    # Grouped by item, as the published file is, but for the last row.
    log += ["B1,u,30,5\n", "B1,v,10,5\n", "B2,u,10,1\n", "B3,u,10,2\n", "B0,u,10,3\n"]
    columns = {"user_column": "user", "item_column": "asin", "time_column": "time"}
    header, *rows = add_ranks(log, **columns)
    assert header == ["user", "asin", "time", "rank"]
    of_u = sorted((int(rank), item) for user, item, _, rank in rows if user == "u")
    assert of_u == [(0, "B0"), (1, "B2"), (2, "B3"), (3, "B1")]
    assert [row[3] for row in rows if row[0] == "v"] == ["0"]


def test_prepare_keeps_that_order(tmp_path):
    """Without the rank, the tie rule of `prepare` gives other sequences and targets."""
    from published_order import add_ranks

    from adaptiverec.model.prepared_data import PreparedData
    from adaptiverec.pipeline import prepare

    # Everything on one day: ties alone.
    log = ["user,item,time\n"]
    log += [f"u{user},B{item},86400\n" for item in range(9) for user in range(7)]
    columns = {"user_column": "user", "item_column": "item", "time_column": "time"}
    with (tmp_path / "ranked.csv").open("w") as file:
        file.writelines(",".join(row) + "\n" for row in add_ranks(log, **columns))
    orders = []
    for name, options in (("hash", {}), ("rank", {"order_column": "rank"})):
        prepare(
            input=[str(tmp_path / "ranked.csv")],
            output=str(tmp_path / name),
            report=False,
            **columns,
            **options,
        )
        data = PreparedData.open(str(tmp_path / name))
        sequences = data.sequences()
        rows = sequences.items.reshape(7, 9)
        orders.append([[data.vocabulary[item - 1] for item in row] for row in rows])
    by_hash, by_rank = orders
    assert by_rank == [[f"B{item}" for item in range(9)]] * 7
    assert all(row != by_rank[0] for row in by_hash)


def test_negatives_are_distinct_and_outside_of_the_history():
    from sampled_candidates import sample_negatives

    weights = np.array([0, 5, 1, 1, 1, 1, 1, 0, 1.0])
    seen = np.array([[1, 2, 0], [3, 0, 0]])
    targets = np.array([3, 4])
    drawn = [
        sample_negatives(
            seen, targets, weights, count=4, generator=np.random.default_rng(seed)
        )
        for seed in range(40)
    ]
    # Of the first user there are just 4 left: 4, 5, 6 and 8.
    assert all(sorted(d[0].tolist()) == [4, 5, 6, 8] for d in drawn)
    second = [set(d[1].tolist()) for d in drawn]
    assert all(len(d) == 4 and d <= {1, 2, 5, 6, 8} for d in second)
    # The weightiest of five is nearly always among four.
    assert sum(1 in d for d in second) > sum(2 in d for d in second)
    with pytest.raises(ValueError, match="needs 5 items outside of the history"):
        sample_negatives(
            seen, targets, weights, count=5, generator=np.random.default_rng(0)
        )


def test_ranks_among_candidates():
    from sampled_candidates import candidate_ranks

    scores = np.array([[-np.inf, 0.3, 0.9, 0.5, 0.5, np.nan]])
    rank = lambda *others: candidate_ranks(  # noqa: E731
        scores, np.array([3]), np.array([others])
    ).item()
    assert rank(1) == 1
    assert rank(1, 2) == 2
    assert rank(1, 4) == 1.5
    assert rank(5, 2) == 3


def test_alignment_and_uniformity_of_a_square():
    from measurements import alignment_and_uniformity

    # Four corners of a circle, of any length: neighbours at distance² 2, opposites at 4.
    corners = np.array([[3.0, 0], [0, 1], [-2, 0], [0, -5]])
    alignment, uniformity = alignment_and_uniformity(
        corners, np.array([0, 1]), np.array([1, 3])
    )
    assert alignment == pytest.approx((2 + 4) / 2)
    expected = math.log((2 * math.exp(-4) + math.exp(-8)) / 3)
    assert uniformity == pytest.approx(expected, abs=0.02)


def test_the_paired_test_of_differences_worked_by_hand():
    from paired import compare

    # Differences 1, 0, 0, 1: mean .5, sd 1/√3, standard error 1/√12; t of 3 degrees of
    # freedom is √3, whose two-sided p is .1817, and 3.1824 at .05.
    found = compare(np.array([[1.0, 1, 0, 1]]), np.array([[0.0, 1, 0, 0]]))
    assert found.mean == 0.5
    assert found.p == pytest.approx(0.1817, abs=1e-4)
    assert found.reach == pytest.approx(3.1824 / math.sqrt(12), abs=1e-4)
    assert not found.over_seeds
    assert compare(np.ones((1, 3)), np.ones((1, 3))).p == 1


def test_seeds_count_in_the_paired_test():
    from paired import Variance, compare, variance_of_seeds

    # Users all alike: means of the first's seeds 0 and 2, and of the second's 3 and 7.
    first = np.array([[0.0] * 5, [2.0] * 5])
    second = np.array([[3.0] * 5, [7.0] * 5])
    assert variance_of_seeds([first]) == (2.0, 1)
    pooled = variance_of_seeds([first, second])
    assert pooled == (5.0, 2)
    assert variance_of_seeds([first[:1]]) is None
    # The variance of the difference: 5 / 2 + 5 / 1, and nothing of the users.
    found = compare(first, second[:1], pooled)
    assert found.over_seeds
    assert found.mean == -2.0
    error = math.sqrt(7.5)
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(2 / error, 2))
    assert found.reach == pytest.approx(scipy.stats.t.ppf(0.975, 2) * error)
    assert compare(first, first, Variance(0.0, 1)).p == 1


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_two_halves_of_the_seeds_of_one_system_seldom_differ(num_seeds):
    """Each seed has a level of its own, of all users: five in a hundred, or fewer."""
    from paired import compare, variance_of_seeds

    generator = np.random.default_rng(1)
    found = []
    for _ in range(400):
        levels = 0.02 * generator.normal(size=(2 * num_seeds, 1))
        gains = levels + 0.3 * generator.normal(size=(2 * num_seeds, 400))
        halves = gains[:num_seeds], gains[num_seeds:]
        found.append(compare(*halves, variance_of_seeds(halves)).p < 0.05)
    assert np.mean(found) < 0.07


def test_gains_of_each_seed(tmp_path):
    from paired import gains_of_seeds
    from user_ranks import write_ranks

    paths = [tmp_path / "0.npz", tmp_path / "1.npz"]
    write_ranks(paths[0], {"kept": np.array([1.0, 3.0, 11.0], np.float32)})
    write_ranks(paths[1], {"kept": np.array([1.0, 12.0, 11.0], np.float32)})
    gains = gains_of_seeds(paths, "kept", "ndcg@10")
    np.testing.assert_allclose(gains, [[1.0, 0.5, 0.0], [1.0, 0.0, 0.0]], rtol=1e-6)


def test_ranks_are_kept_as_far_as_lists_reach(tmp_path):
    from user_ranks import read_ranks, write_ranks

    ranks = {"kept": np.array([1.0, 2.5, 50.0, 50.5, 12101.0], np.float32)}
    write_ranks(tmp_path / "made" / "ranks.npz", ranks)
    found = read_ranks(tmp_path / "made" / "ranks.npz", "kept")
    np.testing.assert_array_equal(found, [1.0, 2.5, 50.0, 50.5, 51.0])


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """Writes results of ten users, by row and seed how many have rank 1 and others none."""
    import summarise
    from user_ranks import write_ranks

    def write(table: str, row: str, hits: list[int]) -> None:
        for seed, count in enumerate(hits):
            path = tmp_path / table / f"{row[:4]}-{seed}.json"
            found = np.where(np.arange(10) < count, 1.0, 99.0)
            write_ranks(path.with_suffix(".npz"), {"kept": found, "removed": found})
            names = [f"{m}@{k}" for m in ("recall", "ndcg", "mrr") for k in (5, 10)]
            values = dict.fromkeys(names, count / 10)
            protocols = ("kept", "removed", "popular", "random")
            result = {
                "row": row,
                "seed": seed,
                "best_epoch": 3,
                "test": dict.fromkeys(protocols, values),
                "geometry": dict.fromkeys(summarise._GEOMETRY, -1.25),
            }
            path.write_text(json.dumps(result))

    def summarised(table: str) -> str:
        arguments = ["", "--table", table, "--results", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", arguments)
        summarise.main()
        return capsys.readouterr().out

    write("beauty-poster", "SASRec", [4, 6])
    write("beauty-poster", "AdaptiveRec us_x", [8, 9])
    return write, summarised


def test_the_tables_say_what_was_measured(told):
    from summarise import spread

    _, summarised = told
    text = summarised("beauty-poster")
    assert spread([]) == "\u2013"
    # Means .5 and .85; standard deviations .1 √2 and .1 / √2.
    assert "| SASRec | 2 | 3 | .5000 ± .1414 |" in text
    assert "| AdaptiveRec us_x | 2 | 3 | .8500 ± .0707 |" in text
    assert "| -1.250 ± .000 |" in text
    # Users' gains: .5 for three, 1 for two. Their variance is (.25 * 3 + 2 - 10 * .35²) /
    # 9 = .1694, that of their mean .01694. Of two degrees of freedom nothing is known
    # about seeds, so that a star says that it is the users alone: t is 2.2622 there.
    gain = "+0.3500 ± .2945 *"
    assert f"| AdaptiveRec us_x - SASRec | 2 and 2 | {gain} | {gain} |" in text


def test_seeds_are_pooled_over_the_tables_of_the_same_data(told):
    write, summarised = told
    write("beauty-best", "SASRec", [5, 5, 5, 5])
    write("ml-1m-best", "SASRec", [1, 9])
    # Seeds have a variance of (.02 + .005) / 5 here, their means' difference as much. With
    # the users' .01694 it is .02194, of .02194² / (.01694² / 9 + .005² / 5) = 13.05 degrees
    # of freedom, where t is 2.1594.
    gain = "**+0.3500 ± .3199**"
    text = summarised("beauty-poster")
    assert f"| AdaptiveRec us_x - SASRec | 2 and 2 | {gain} | {gain} |" in text


def test_similarity_curves_are_drawn_epoch_by_epoch(tmp_path, monkeypatch):
    import similarity_curves
    from matplotlib.colors import to_rgb

    values = {2: np.linspace(-0.5, 1.0, 101), 1: np.ones(101)}
    for epoch, quantiles in values.items():
        path = tmp_path / "run" / "diagnostics" / f"epoch-{epoch:04d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        noted = {"epoch": epoch, "similarity_quantiles": list(quantiles)}
        path.write_text(json.dumps(noted))
    curves = similarity_curves.curves_of(tmp_path / "run")
    (panel,) = similarity_curves.draw_curves({"A run": curves}).axes
    assert panel.get_title() == "A run\n2 epochs"
    early, late = panel.get_lines()
    np.testing.assert_array_equal(early.get_ydata(), values[1])
    np.testing.assert_array_equal(late.get_ydata(), values[2])
    red, green = to_rgb(late.get_color()), to_rgb(early.get_color())
    assert red[0] > red[1]
    assert green[1] > green[0]

    output = tmp_path / "curves.png"
    arguments = ["", str(tmp_path / "run"), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", arguments)
    similarity_curves.main()
    assert output.read_bytes().startswith(b"\x89PNG")
    (tmp_path / "none").mkdir()
    monkeypatch.setattr(sys, "argv", [*arguments, str(tmp_path / "none")])
    with pytest.raises(SystemExit):
        similarity_curves.main()


def test_a_table_is_filled_seed_by_seed():
    from tables import TABLES, jobs_of

    for name, table in TABLES.items():
        jobs = jobs_of(name)
        assert len({job.name for job in jobs}) == len(jobs)
        assert [job.seed for job in jobs] == sorted(job.seed for job in jobs)
        assert {job.row for job in jobs} >= set(table.against)


@pytest.fixture
def tiny_job(tiny_training):
    from tables import Job

    return Job("beauty-poster", "SASRec", 0, {"objective": "none", **tiny_training})


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_and_is_summarised(
    prepared_path, tmp_path, tiny_job
):
    """Killed after the first epoch; then by the command, to the end and into the table."""
    import fill
    from paired import gains_of_seeds
    from summarise import compare_rows, main_table, read_results, variances_of_seeds
    from tables import TABLES, Job

    from adaptiverec.model.train import train

    job = Job(tiny_job.table, tiny_job.row, 0, {**tiny_job.options, "epochs": 2})
    work, results = tmp_path / "work", tmp_path / "results"
    given = fill.arguments_of(job, prepared_path, work, results)
    # What a kill leaves: a run whose record does not say that it is complete.
    train(
        data=given["data"],
        output=given["run"],
        seed=0,
        **{**job.options, "epochs": 1},
    )
    record = Path(given["run"]) / "run.json"
    record.write_text(
        json.dumps(json.loads(record.read_text()) | {"status": "training"})
    )
    assert fill.fill([job], data=prepared_path, work=work, results=results) == []
    log = (work / job.table / "logs" / f"{job.name}.log").read_text()
    assert "Going on after epoch 1." in log
    result = json.loads(fill.result_path(results, job).read_text())
    assert (result["epochs"], result["seed"]) == (2, 0)
    assert set(result["test"]) == {"kept", "removed", "popular", "random"}
    assert result["test"]["removed"]["recall@10"] >= result["test"]["kept"]["recall@10"]
    # A second sitting finds nothing to do.
    before = record.stat().st_mtime_ns
    assert fill.fill([job], data=prepared_path, work=work, results=results) == []
    assert record.stat().st_mtime_ns == before

    rows = read_results(results / job.table, TABLES[job.table])
    expected = f"{result['test']['kept']['ndcg@10']:.4f}".replace("0.", ".", 1)
    assert expected in main_table(rows)
    of_seeds = variances_of_seeds(results, "beauty")
    assert of_seeds == [None] * 4
    assert compare_rows(TABLES[job.table], rows, of_seeds) == []
    (row,) = rows.values()
    gains = gains_of_seeds([row[0]["ranks"]], "kept", "recall@10")
    assert gains.mean() == pytest.approx(result["test"]["kept"]["recall@10"], abs=1e-6)


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_the_others_go_on(
    prepared_path, tmp_path, tiny_job
):
    import fill
    from tables import Job

    bad = Job(tiny_job.table, "Bad", 0, {"objective": "none", "epochs": 0})
    failed = fill.fill(
        [bad], data=prepared_path, work=tmp_path / "work", results=tmp_path / "results"
    )
    assert failed == [bad]
    log = tmp_path / "work" / bad.table / "logs" / f"{bad.name}.log"
    assert "epochs must be at least 1" in log.read_text()


def test_a_run_that_another_process_has_is_left_to_it(tmp_path, tiny_job):
    import fill

    lock = tmp_path / "work" / tiny_job.table / "locks" / tiny_job.name
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {str(QUALITY)!r}); import fill, pathlib\n"
            f"with fill.taken(pathlib.Path({str(lock)!r})):\n"
            "    print('has it', flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"has it\n"
        work, results = tmp_path / "work", tmp_path / "results"
        # No data: it would fail if it were begun.
        assert (
            fill.fill([tiny_job], data=tmp_path / "no", work=work, results=results)
            == []
        )
        assert not results.exists()
    finally:
        holder.communicate(b"\n", timeout=30)
