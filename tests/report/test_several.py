"""Pages that compare runs, from hand-written run folders."""

from __future__ import annotations

import html
import json
import math
import re

import pytest

from tfl_research import report
from tfl_research.cli import report as command
from tfl_research.report.several import figures, grids, groups


def write_run(folder, values, *, seed=0, epsilon="inf", **hparams):
    """A run with an evaluation in each round."""
    folder.mkdir(parents=True)
    settings = {"task": "mnist", "rounds": len(values), "seed": seed, **hparams}
    record = {"experiment": "fed_avg", "hparams": settings}
    if epsilon != "inf":
        record["privacy_plan"] = {"unit": "client", "delta": 0.001}
    (folder / "hparams.json").write_text(json.dumps(record))
    lines = ["round,eval_accuracy,epsilon,bytes_down,bytes_up,round_seconds"]
    for number, value in enumerate(values, start=1):
        lines.append(f"{number},{value},{epsilon},1000,500,2")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    summary = {
        "completed_rounds": len(values),
        "stop_reason": "rounds",
        "untrained": {"eval_accuracy": 0.1},
        "final": {"round": len(values), "eval_accuracy": values[-1]},
        "best": {"round": 1, "selected_by": "eval_accuracy", "value": max(values)},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def text_of(path):
    content = path.read_text(encoding="utf-8")
    body = re.sub(r"<(style|script|svg).*?</\1>", " ", content, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


@pytest.fixture
def three(tmp_path):
    finals = {0: 0.5, 1: 0.6, 2: 0.7}
    slow = [
        write_run(tmp_path / f"slow{s}", [0.2, v], seed=s, client_learning_rate=0.1)
        for s, v in finals.items()
    ]
    fast = write_run(tmp_path / "fast", [0.4, 0.9], client_learning_rate=0.5)
    return [*slow, fast]


def test_runs_that_differ_in_their_seed_are_one_group(three):
    found = groups.grouped(groups.read_runs(three))
    assert [len(group.runs) for group in found] == [3, 1]
    assert [group.label for group in found] == ["client learning rate 0.1", "fast"]
    # 4.30265 standard errors: a standard deviation of 0.1 over the root of three.
    assert found[0].text("eval_accuracy") == f"0.6 ± {0.430265 / math.sqrt(3):.4g}"
    assert found[1].text("eval_accuracy") == "0.9"
    assert groups.differing(groups.read_runs(three)) == ["client_learning_rate"]


def test_two_seeds_have_no_interval_and_it_is_said(three, tmp_path):
    path = report.compare(three[:2], tmp_path / "page.html")
    text = text_of(path)
    assert "0.5, 0.6" in text
    assert "±" not in text
    assert "an interval of two runs would have only one degree of freedom" in text
    assert "The runs differ only in their seeds." in text
    (group,) = groups.grouped(groups.read_runs(three[:2]))
    # The mean with points, and both runs; three of each are no curve.
    svg = figures.overlaid([group], "eval_accuracy", "k").svg
    assert svg.count('id="k-s0') == 3
    assert "k-s0.band" not in svg


def test_three_seeds_have_a_band(three):
    found = groups.grouped(groups.read_runs(three))
    picture = figures.overlaid(found, "eval_accuracy", "k")
    assert picture.svg.count('id="k-s0.band"') == 1
    assert 'id="k-s1.band"' not in picture.svg
    assert picture.caption.endswith("fast is best at the end, 0.9.")
    series = json.loads(picture.data)["series"]
    # Means by hand, with the untrained model at round 0.
    assert series[0]["x"] == [0.0, 1.0, 2.0]
    assert series[0]["y"] == ["0.1", "0.2", "0.6"]


def test_a_setting_looks_alike_in_all_pictures(tmp_path):
    """Also where it alone has a curve, which says whose it is."""
    folders = [
        write_run(tmp_path / "first", [0.3, 0.5, 0.6], task="heart"),
        write_run(tmp_path / "second", [0.4, 0.6, 0.7]),
    ]
    path = folders[1] / "metrics.csv"
    path.write_text(path.read_text().replace("eval_accuracy", "held_out_accuracy"))
    found = groups.grouped(groups.read_runs(folders))
    picture = figures.overlaid(found, "held_out_accuracy", "k")
    assert [(key.id, key.label, key.colour) for key in picture.legend] == [
        ("k-s1", "second", 1)
    ]
    assert 'id="k-s1"' in picture.svg
    assert 'id="k-s0"' not in picture.svg
    assert picture.caption.endswith("only second has these values: 0.7 at the end.")
    text = text_of(report.compare(folders, tmp_path / "page.html"))
    assert "The tasks differ, so the values of one metric do not compare." in text


def test_the_page_has_results_and_settings(three, tmp_path):
    report.write(three[3])
    path = report.compare(three, tmp_path / "page.html")
    text = text_of(path)
    assert "4 runs · 2 settings, seeds not counted · task mnist" in text
    assert "fast 1 0.9 2 4 s 3 kB all rounds" in text
    assert "client_learning_rate 0.1 0.5" in text
    # Addresses of the runs' own reports, where there are some.
    content = path.read_text(encoding="utf-8")
    assert re.findall(r'href="([^#"]+)"', content) == ["fast/report.html"]
    assert "ε, largest" not in text


def test_private_runs_are_drawn_against_epsilon(tmp_path):
    folders = [
        write_run(tmp_path / "free", [0.9]),
        write_run(tmp_path / "one", [0.5], epsilon=0.99991, target_epsilon=1.0),
        write_run(tmp_path / "four", [0.7], epsilon=3.9, target_epsilon=4.0),
    ]
    text = text_of(report.compare(folders, tmp_path / "page.html"))
    assert "Accuracy against ε" in text
    assert "Dashed lines are runs without privacy." in text
    # ε is rounded up, and no run without privacy has an infinite one.
    assert "one 1 0.5 1 1 2 s" in text
    assert "free 1 0.9 not private 1" in text
    assert "∞" not in text


def test_a_withheld_metric_is_not_there(tmp_path):
    folders = [
        write_run(tmp_path / name, [0.5], epsilon=epsilon)
        for name, epsilon in (("a", 1.0), ("b", 2.0))
    ]
    for folder in folders:
        (folder / "metrics.csv").write_text("round,epsilon,delta\n1,2,0.001\n")
        summary = {"stop_reason": "rounds", "final": {"round": 1}, "untrained": {}}
        (folder / "summary.json").write_text(json.dumps(summary))
    text = text_of(report.compare(folders, tmp_path / "page.html"))
    assert "No run gives out a metric of an evaluation yet." in text
    assert "accuracy" not in text.lower()
    assert "kB" not in text


def test_many_settings_are_drawn_in_part_and_it_is_said(tmp_path):
    folders = [
        write_run(tmp_path / f"r{i}", [0.1, i / 20], cohort_size=i)
        for i in range(1, 12)
    ]
    found = groups.grouped(groups.read_runs(folders))
    picture = figures.overlaid(found, "eval_accuracy", "k")
    assert len(picture.legend) == 8
    assert picture.legend[0].label == "r4"
    assert (
        "The best 8 settings are drawn, and 3 more are in the table." in picture.caption
    )


def test_names_are_escaped(tmp_path):
    folders = [
        write_run(tmp_path / "<b>one", [0.5], task="<script>x</script>"),
        write_run(tmp_path / "two", [0.5], cohort_size=3),
    ]
    content = report.compare(folders, tmp_path / "page.html").read_text()
    assert "<b>" not in content
    assert "<script>x" not in content


def write_sweep(folder, begun=2):
    points = {f"p{i}": {"seed": i % 2} for i in range(4)}
    folder.mkdir()
    (folder / "sweep.json").write_text(json.dumps({"format": 2, "points": points}))
    for i in range(begun):
        run = folder / "points" / f"p{i}"
        write_run(run, [0.5 + i / 10], seed=i % 2, aggregator=("mean", "krum")[i // 2])
    rows = [f"{('mean', 'krum')[i // 2]},{i % 2},rounds" for i in range(begun)]
    header = "rule,seed,stop_reason"
    (folder / "results.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def test_a_sweep_is_grouped_by_its_labels(tmp_path):
    path = report.compare_sweep(write_sweep(tmp_path / "grid", begun=4))
    assert path == tmp_path / "grid" / "comparison.html"
    text = text_of(path)
    assert "Sweep grid 4 runs · 2 settings" in text
    assert "mean 2 0.5, 0.6 1 2 s" in text
    assert "krum 2 0.7, 0.8 1 2 s" in text


def test_a_sweep_that_goes_on(tmp_path):
    text = text_of(report.compare_sweep(write_sweep(tmp_path / "grid", begun=1)))
    assert "Sweep grid 1 run · 1 setting" in text
    assert "these figures do not show how much the seed changes" in text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "no run is named"),
        (["nowhere"], "holds no run"),
        (["a", "a"], "is given twice"),
        (["a", "--output=x.html"], "the page of one run is its report.html"),
        (["a", "--sweep=grid"], "leave one of the two out"),
        (["--sweep=a"], "holds no sweep"),
        (["--sweep=empty"], "no run of this sweep has begun yet"),
        (["--sweep=damaged"], "sweep.json is damaged"),
        (["a", "b", "--output=no/x.html"], "No such file"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(
    tmp_path, monkeypatch, capsys, arguments, problem
):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        write_run(tmp_path / name, [0.5])
    write_sweep(tmp_path / "grid")
    write_sweep(tmp_path / "empty", begun=0)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "sweep.json").write_text("[]")
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("report: ")
    assert error.count("\n") == 1
    assert problem in error


def test_command_line(tmp_path, capsys):
    folders = [str(write_run(tmp_path / "x" / name, [0.5])) for name in "ab"]
    assert command.main(folders) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'x' / 'comparison.html'}\n"
    write_sweep(tmp_path / "grid")
    page = tmp_path / "grid.html"
    assert command.main([f"--sweep={tmp_path / 'grid'}", f"--output={page}"]) == 0
    assert page.exists()
    assert command.main(folders[:1]) == 0
    assert capsys.readouterr().out.endswith("a/report.html\n")


def grid_runs(folder, pairs):
    return [
        groups.Run(
            path := write_run(folder / f"{rule}{fraction}", [value], aggregator=rule),
            groups.run_results.read(path),
            {"rule": rule, "fraction": fraction, "f": "4", "seed": "0"},
        )
        for rule, fraction, value in pairs
    ]


def test_a_sweep_with_two_dimensions_has_a_heatmap(tmp_path):
    pairs = [("mean", "0.1", 0.5), ("mean", "0.2", 0.25), ("krum", "0.1", 0.75)]
    runs = grid_runs(tmp_path, pairs)
    for run, fraction in zip(runs, (0.1, 0.2, 0.1)):
        run.results.hparams["malicious_fraction"] = fraction
    found = groups.grouped(runs)
    # What all points have in common is in no label.
    assert groups.dimensions(found) == ["rule", "fraction"]
    assert found[1].label == "mean, fraction 0.2"
    picture = grids.draw(found, "eval_accuracy", "g")
    assert picture.title == "Accuracy, test examples by rule and fraction"
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", picture.svg)
    # A pair without a run has no number.
    assert sorted(t for t in texts if t in ("0.5", "0.25", "0.75", "nan")) == [
        "0.25",
        "0.5",
        "0.75",
    ]
    assert "from 0.25 at mean, 0.2 to 0.75 at krum, 0.1." in picture.caption
    assert "<image" not in picture.svg
    assert grids.draw(found[:2], "eval_accuracy", "g") is None
