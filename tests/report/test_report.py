"""report.html from hand-written run folders."""

from __future__ import annotations

import base64
import csv
import hashlib
import html.parser
import json
import re
import subprocess
import sys

import pytest
from werkzeug.test import Client

from tfl_research import report
from tfl_research.report import run_results
from tfl_research.report.dashboard.app import Dashboard
from tfl_research.report.dashboard.watched import Watched
from tfl_research.storage.metrics import kept_rows

HOSTILE = '<script>alert("x")</script>&'


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "run <b>1"
    path.mkdir()
    record = {
        "experiment": "dp_fed_avg",
        "hparams": {"task": HOSTILE, "rounds": 3, "clip": None},
        "versions": {"tensorflow": "2.14.1", "jax": None},
        "git_revision": None,
        "run_seed": "secret",
    }
    (path / "hparams.json").write_text(json.dumps(record))
    (path / "metrics.csv").write_text(
        "round,train_loss,eval_loss,eval_accuracy,epsilon,delta,round_seconds\n"
        "1,2.5,,,0.5,0.0001,0.1\n2,nan,2.25,0.25,0.75,0.0001,0.1\n"
        "3,2,1.75,0.5,1.2345678,0.0001,0.1\n"
    )
    (path / "clients.csv").write_text(
        "model,split,client_id,examples,loss,accuracy,auc\n"
        f'final,eval,"{HOSTILE.replace(chr(34), chr(34) * 2)}",3,1.5,0.3,\n'
        "final,eval,big,30,1.25,0.6,\nfinal,eval,none,0,,,\n"
        "best,held_out,other,4,1.125,0.7,0.5\n"
    )
    summary = {
        "stop_reason": "budget",
        "untrained": {"eval_loss": 4.5, "eval_accuracy": "nan"},
        "final": {"round": 3, "eval_loss": 1.75, "eval_accuracy": 0.5},
        "best": {
            "round": 2,
            "eval_loss": 2.25,
            "eval_accuracy": 0.25,
            "selected_by": "eval_accuracy",
            "value": 0.25,
        },
    }
    (path / "summary.json").write_text(json.dumps(summary))
    (path / "privacy.txt").write_text("Relation: add or remove one client.\n")
    return path


class Page(html.parser.HTMLParser):
    """The page's text, tags and ids."""

    def __init__(self, content):
        super().__init__()
        self.text, self.tags, self.ids, self.links = "", [], [], []
        self.attributes = []
        self.open = []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "path", "use", "br"):
            self.open.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href"):
                self.links.append(value)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data + " "


def test_shows_what_the_files_say(folder):
    path = report.write(folder)
    assert path == folder / "report.html"
    shown = Page(path.read_text())
    text = " ".join(shown.text.split())
    for part in (
        "dp_fed_avg",
        "3 rounds: the next round would exceed the privacy budget",
        "ε = 1.235 at δ = 0.0001 after 3 rounds",
        "Relation: add or remove one client.",
        "metric untrained final round 3 best round 2",
        "loss, test examples eval_loss 4.5 1.75 2.25",
        "accuracy, test examples eval_accuracy – 0.5 0.25",
        "selected by accuracy, test examples",
        "Final model, clients' test splits (3 clients)",
        "big 30 1.25 0.6",
        "none 0 – –",
        "other 4 1.125 0.7 0.5",
        "tensorflow 2.14.1",
        "run seed secret",
    ):
        assert part in text, part
    # Loss, accuracy, ε and the clients' accuracy, and the lines of two legends.
    assert len([t for t, n, v in shown.attributes if n == "class" and v == "plot"]) == 4
    assert shown.tags.count("svg") == 6


def test_text_is_escaped(folder):
    shown = Page(report.write(folder).read_text())
    # The page's own one.
    assert shown.tags.count("script") == 1
    assert "b" not in shown.tags
    # In the settings, and twice as a client's id: in a caption and in the table.
    assert shown.text.count('alert("x")</script>&') == 3
    # A picture's title has no formula, and its label is an attribute.
    (label,) = (
        value
        for tag, name, value in shown.attributes
        if name == "aria-label" and value.startswith("Accuracy at each client")
    )
    assert HOSTILE in label


def test_is_self_contained(folder):
    content = report.write(folder).read_text()
    shown = Page(content)
    assert not {"link", "img", "iframe", "object"} & set(shown.tags)
    assert not [value for tag, name, value in shown.attributes if name == "src"]
    assert shown.links
    assert all(link.startswith("#") for link in shown.links)
    assert "@import" not in content
    assert not re.search(r"url\((?!#)", content)
    # The panels' ids do not collide, and what they refer to exists.
    assert len(shown.ids) == len(set(shown.ids))
    assert {link[1:] for link in shown.links} <= set(shown.ids)
    (policy,) = (v for _, name, v in shown.attributes if v and "default-src" in v)
    script = content.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy


def test_nothing_private_is_said_so(folder):
    metrics = folder / "metrics.csv"
    metrics.write_text("round,train_loss,epsilon,delta\n1,2.5,inf,\n2,2.0,inf,\n")
    shown = Page(report.write(folder).read_text())
    text = " ".join(shown.text.split())
    assert "This run is not differentially private" in text
    # An infinite ε says nothing more, and so is nowhere on the page.
    assert "∞" not in text
    assert " inf " not in text
    assert "Privacy loss" not in text
    assert "Relation: add or remove" not in text


def begun_with_a_plan(folder, **plan):
    record = json.loads((folder / "hparams.json").read_text())
    record["privacy_plan"] = plan
    (folder / "hparams.json").write_text(json.dumps(record))


def test_epsilon_is_a_bound(folder):
    metrics = folder / "metrics.csv"
    metrics.write_text("round,epsilon,delta\n1,7.42693382,0.00012345678\n")
    text = " ".join(Page(report.write(folder).read_text()).text.split())
    assert "ε = 7.427 at δ = 0.0001235 after 1 round." in text
    # The tile and the picture have the same digits.
    assert text.count("7.427") == 3
    assert "7.4269" not in text


def test_a_private_run_whose_first_round_diverged_has_its_guarantee(folder):
    begun_with_a_plan(folder, delta=0.001)
    (folder / "metrics.csv").write_text("round,epsilon,delta\n")
    summary = {"stop_reason": "diverged", "final": {"round": 0}, "epsilon": 0.75}
    (folder / "summary.json").write_text(json.dumps(summary))
    text = " ".join(Page(report.write(folder).read_text()).text.split())
    assert "no privacy guarantee" not in text
    wanted = "ε = 0.75 at δ = 0.001 after 0 rounds and the round that diverged."
    assert wanted in text
    assert "; exact, not covered by ε" in text


def test_a_private_run_without_a_round_has_spent_nothing(folder):
    begun_with_a_plan(folder, deltas={"north": 0.001})
    for name in ("metrics.csv", "summary.json"):
        (folder / name).unlink()
    text = " ".join(Page(report.write(folder).read_text()).text.split())
    assert "ε = 0 after 0 rounds" in text


def test_a_choice_without_a_value_has_no_optimistic_value(folder):
    summary = json.loads((folder / "summary.json").read_text())
    summary["best"].update(selected_by="private_choice", value=None)
    (folder / "summary.json").write_text(json.dumps(summary))
    text = " ".join(Page(report.write(folder).read_text()).text.split())
    assert "selected by a private choice, which ε covers" in text
    assert "optimistic" not in text


def test_a_run_that_has_only_begun(folder):
    for name in ("metrics.csv", "clients.csv", "summary.json", "privacy.txt"):
        (folder / name).unlink()
    shown = Page(report.write(folder).read_text())
    assert "No round is done yet." in shown.text
    assert "svg" not in shown.tags


def test_a_row_being_written_is_left_out(folder):
    with (folder / "metrics.csv").open("a") as file:
        file.write("4,1.5,1.")
    metrics = run_results.read(folder).metrics
    assert {len(column) for column in metrics.values()} == {3}


def _with_copy(folder):
    """Writes metrics_copy.jsonl as a run does; returns the path of metrics.csv."""
    path = folder / "metrics.csv"
    with path.open(newline="") as file:
        rows = [{n: c for n, c in row.items() if c} for row in csv.DictReader(file)]
    lines = b"".join(map(kept_rows.copy_line, rows))
    (folder / kept_rows.COPY).write_bytes(lines)
    return path


@pytest.mark.parametrize(
    ("row", "now", "problem"),
    [
        (3, "", "lacks round 3, which metrics_copy.jsonl has"),
        (1, "", "lacks round 1, which metrics_copy.jsonl has"),
        (2, "2,nan,2.25,0.99,0.75,0.0001,0.1\n", "differs in round 2 from its copy"),
        (2, "2,nan,2.25,,0.75,0.0001,0.1\n", "differs in round 2 from its copy"),
        (3, "3,2,1.75,0.5,1.23,0.0001,0.1\n", "differs in round 3 from its copy"),
    ],
)
def test_a_table_that_is_not_as_it_was_written_is_refused(folder, row, now, problem):
    """The page showed the edited cell, or ε and curves of a shorter run."""
    path = _with_copy(folder)
    before = report.write(folder).read_bytes()
    lines = path.read_text().splitlines(keepends=True)
    lines[row] = now
    path.write_text("".join(lines))
    with pytest.raises(ValueError, match=problem) as raised:
        report.write(folder)
    assert str(raised.value).endswith("; the command of the run repairs the file")
    # The live page notices too, and the former page stays.
    assert problem in Page(Client(Dashboard(Watched(folder))).get("/").text).text
    assert (folder / "report.html").read_bytes() == before


def test_a_table_that_is_gone_is_no_run_that_has_only_begun(folder):
    _with_copy(folder).unlink()
    with pytest.raises(ValueError, match=r"metrics\.csv lacks round 1"):
        report.write(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{\n", b'{"row":{"round":"9"},"check":"0"}\n']
)
def test_a_damaged_copy_says_nothing_of_the_table(folder, content):
    (folder / kept_rows.COPY).write_bytes(content)
    assert report.write(folder).exists()
    assert run_results.read(folder).values("eval_loss") == [2.25, 1.75]


def test_a_row_that_its_copy_does_not_have_yet_is_shown(folder):
    path = _with_copy(folder)
    with path.open("a") as file:
        file.write("4,1.5,1.5,0.625,1.5,0.0001,0.1\n")
    assert run_results.read(folder).completed == 4


def test_many_clients_are_cut_and_said_so(folder):
    rows = "".join(f"final,eval,c{i},{i},0.5\n" for i in range(1000))
    (folder / "clients.csv").write_text("model,split,client_id,examples,loss\n" + rows)
    text = Page(report.write(folder).read_text()).text
    assert "The table shows the 200 clients with the most examples, of 1000" in text
    assert "c999" in text
    assert "c1 " not in text


def test_a_long_run_stays_small(folder):
    rows = "".join(f"{i},{1 / i},{i / 1e4},0.0001\n" for i in range(1, 20001))
    (folder / "metrics.csv").write_text("round,train_loss,epsilon,delta\n" + rows)
    assert report.write(folder).stat().st_size < 500_000


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("hparams.json", "{", "hparams.json is not JSON"),
        ("summary.json", "[]", "summary.json does not hold a JSON object"),
        ("metrics.csv", "round,a\n1,x\n", "metrics.csv, line 2: a is 'x'"),
    ],
)
def test_damaged_files_are_named(folder, name, content, problem):
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=problem):
        report.write(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("hparams.json", '{"hparams": [], "versions": 3}'),
        ("summary.json", '{"final": [1], "best": 3, "stop_reason": []}'),
        ("columns.json", '{"columns": {"epsilon": 7}}'),
        ("clients.csv", "a,b\n1,2\n"),
        ("client_epsilon.csv", "round,who\n1,x\n2,y\n"),
        ("personal_clients.csv", "a\n1\n"),
        ("audit.json", '{"bound": [], "membership": 7}'),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line_or_left_out(
    folder, name, content
):
    begun_with_a_plan(folder, delta=0.001)
    (folder / name).write_text(content)
    problem = ""
    try:
        report.write(folder)
    except ValueError as error:
        problem = str(error)
    assert "\n" not in problem
    assert (folder / "report.html").exists() == (not problem)
    assert "is damaged" in problem or not problem
    if name not in ("summary.json", "clients.csv"):
        return
    # The live page says the same, and does not fail.
    client = Client(Dashboard(Watched(folder)))
    assert client.get("/").status_code == 200
    assert client.get("/run/.").status_code == 200


def test_excluded_clients_are_named(folder):
    summary = json.loads((folder / "summary.json").read_text())
    one = {"client": HOSTILE, "rounds": 2, "last_round": 3, "reason": "not finite"}
    summary["excluded"] = [one]
    (folder / "summary.json").write_text(json.dumps(summary))
    text = " ".join(Page(report.write(folder).read_text()).text.split())
    assert f"client rounds last round why {HOSTILE} 2 3 not finite" in text


def test_no_run_there(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run: it has no hparams.json"):
        report.write(tmp_path)


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_without_the_extra(folder, monkeypatch, missing):
    for name in list(sys.modules):
        parent, _, module = name.rpartition(".")
        if parent.startswith("tfl_research.report.pictures"):
            monkeypatch.delitem(sys.modules, name)
            monkeypatch.delattr(sys.modules[parent], module)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(report.ReportUnavailableError, match="extra 'plots'") as error:
        report.write(folder)
    assert missing in str(error.value)
    assert not (folder / "report.html").exists()


def test_command_line(folder, tmp_path):
    code = (
        "import sys; from tfl_research.cli.report import main\n"
        "import tfl_research.cli.dashboard, tfl_research.report.dashboard.app\n"
        "import tfl_research.privacy.accounting.totals\n"
        "code = main(sys.argv[1:])\n"
        "sys.exit(code or 'tensorflow' in sys.modules)\n"
    )

    def call(path):
        return subprocess.run(
            [sys.executable, "-c", code, str(path)],
            capture_output=True,
            text=True,
            check=False,
        )

    done = call(folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / "report.html")
    failed = call(tmp_path)
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1
    assert "holds no run" in failed.stderr
