"""The tutorials under docs/, done as a reader does them.

The commands run as the pages show them, in one process and an empty folder. Where a
page asks for more rounds than CI has time for, a test names the flag that it changes.
"""

from __future__ import annotations

import csv
import json
import pathlib
import re
import sys

import dp_accounting
import numpy as np
import pytest
from document_pages import PAGES, ROOT, code, executed, fenced, run, said

import tfl_research as tfl


@pytest.fixture(scope="module", autouse=True)
def reader(tmp_path_factory):
    """An empty folder to work in, from which scripts import their neighbours."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(ROOT / "experiments"))
        patch.syspath_prepend(str(folder))
        yield folder
    sys.modules.pop("midrange", None)
    if "midrange" in tfl.aggregators.AGGREGATORS.names():
        tfl.aggregators.AGGREGATORS.unregister("midrange")


def rows(path):
    """The rows of a CSV file of a run."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files_in_the_table(page):
    """The files that the first table of `docs/first_run.md` lists."""
    cells = re.findall(
        r"^\| (`.*?`) \|", page.split("## The binaries")[0], re.MULTILINE
    )
    return {name.rstrip("/") for cell in cells for name in re.findall(r"`(.*?)`", cell)}


def test_the_first_run(reader):
    page = "docs/first_run.md"
    output = run(page, "--task=heart")
    assert "round 20/20" in output
    table = rows("results/heart/metrics.csv")
    assert len(table) == 20
    assert float(table[-1]["eval_accuracy"]) > 0.75
    # "Run the same command again, and the run resumes where it ended."
    assert "resumes results/heart after round 20 of 20" in run(page, "--task=heart")
    found = {path.name for path in (reader / "results/heart").iterdir()}
    listed = files_in_the_table(PAGES[page])
    assert found <= listed
    assert {"report.html", "metrics.csv", "export", "summary.json"} <= found


def test_own_files_of_silos(reader):
    """Described, trained on, given a schema, and trained on privately."""
    page = "docs/tables.md"
    executed(code("silos/{clinic}.csv"), reader)
    output = said(
        "scripts/describe_task", "csv", "--data_dir=silos", "--label_column=ill"
    )
    assert "3 files; 0 findings" in output
    run(page, "--output_dir=results/silos")
    clients = rows("results/silos/clients.csv")
    assert {row["client_id"] for row in clients} == {"north", "south", "west"}
    assert float(rows("results/silos/metrics.csv")[-1]["eval_accuracy"]) > 0.7

    run(page, "--write_schema=silos/schema.json")
    schema = reader / "silos" / "schema.json"
    shown = [text for kind, text in fenced(page) if kind == "json" and "null" in text]
    assert [schema.read_text(encoding="utf-8")] == shown
    with pytest.raises(AssertionError, match="minimum and maximum must be numbers"):
        run(page, "record_dp_fed_avg.py")
    # "Fill in what is known without the files."
    content = json.loads(schema.read_text(encoding="utf-8"))
    content["columns"]["age"] = {"minimum": 0, "maximum": 120}
    schema.write_text(json.dumps(content), encoding="utf-8")
    output = run(page, "record_dp_fed_avg.py")
    assert "accuracy" not in output.split("round 1/20")[1]
    folder = reader / "results" / "private_silos"
    spent = {row["client_id"]: row for row in rows(folder / "client_epsilon.csv")}
    epsilons = {name: float(row["epsilon"]) for name, row in spent.items()}
    assert epsilons["north"] == pytest.approx(1.986, abs=5e-4)
    assert epsilons["west"] == pytest.approx(4, abs=1e-3)
    statement = (folder / "privacy.txt").read_text(encoding="utf-8")
    assert re.search(r"Withheld:.*eval_\*", statement, re.DOTALL)


def test_own_model_and_data_from_python(reader):
    names = executed(code("my_model"), reader)
    assert len(names["result"].metrics) == 20
    assert names["result"].metrics["eval_accuracy"].iloc[-1] > 0.8
    # Averaged statistics: the trained model has left the initial ones, 0 and 1.
    (layer,) = [
        layer for layer in names["trained"].layers if "normalization" in layer.name
    ]
    assert np.abs(layer.moving_mean.numpy()).max() > 0.01


def test_user_level_privacy_and_its_statement():
    """Two rounds in place of sixty, for the same ε."""
    page = "docs/privacy.md"
    output = run(page, "--l2_norm_clip=0.3", "--rounds=2")
    assert re.search(r"round 2/2 .*ε 7\.9\d+ \(δ 0\.00073\)", output)
    statement = pathlib.Path("results/private/privacy.txt").read_text(encoding="utf-8")
    # The sections that the page explains are those of the statement.
    sections = re.findall(r"^(\d\. .*)$", statement, re.MULTILINE)
    explained = re.findall(r"^\| (\d\. .*?) \|", PAGES[page], re.MULTILINE)
    assert sections == explained
    assert "Neighbouring relation: add or remove one client" in statement


def test_budgets_across_rounds_and_runs(reader):
    """The runs of the page, then the commands over what they leave."""
    page = "docs/budgets.md"
    names = executed(code("shared.jsonl"), reader)
    accountant = dp_accounting.pld.PLDAccountant()
    sampled = dp_accounting.PoissonSampledDpEvent(0.2, dp_accounting.GaussianDpEvent(1))
    accountant.compose(sampled, 6)
    expected = accountant.get_epsilon(0.001)
    assert names["together"] == pytest.approx(expected, rel=1e-3)
    assert names["first"].epsilon == names["second"].epsilon < names["together"]
    shown = run(page, "show shared.jsonl")
    assert re.search(r"^all +together +6 +2\.451$", shown, re.MULTILINE)
    assert re.search(r"gaussian.* 3 +1\.843$", run(page, "show results"), re.MULTILINE)
    # What the page repeats is what the commands say.
    left = run(page, "plan --ledger").splitlines()
    (left,) = [line for line in left if line.startswith("budget")]
    budget = " ".join(run(page, "budget shared.jsonl").split())
    spent = re.search(r"spent .* below the budget", budget)
    for words in (left, spent[0]):
        assert words in " ".join(PAGES[page].split())
    assert "2 runs share it" in run(page, "verify shared.jsonl")


def test_a_rule_of_ones_own(reader):
    """By Python and by `--plugin`: the same figures."""
    (reader / "midrange.py").write_text(code("class Midrange"), encoding="utf-8")
    result = executed(code("import midrange"), reader)["result"]
    losses = result.metrics["train_loss"]
    assert len(losses) == 5
    assert losses.iloc[-1] < losses.iloc[0] < 0.7
    run("docs/own_parts.md", "--plugin=midrange")
    by_flags = rows("results/midrange_flags/metrics.csv")
    assert [float(row["train_loss"]) for row in by_flags] == losses.tolist()


def test_a_robust_rule_under_attack():
    """Three rounds of a rule that an attack does not break, as it breaks the mean."""
    page = "docs/robust_rules.md"
    run(page, "--aggregator=coordinate_median", "--rounds=3")
    run(page, "--aggregator=mean", "--rounds=3")
    last = [rows(f"results/{name}/metrics.csv")[-1] for name in ("robust", "mean")]
    robust, mean = (float(row["eval_accuracy"]) for row in last)
    assert robust > mean + 0.2


def test_devices():
    page = "docs/devices.md"
    output = run(page, "--devices=714", "--rounds=2")
    assert "dropped out" in output
    table = rows("results/devices/metrics.csv")
    assert [row["cohort_size"] for row in table] == ["20", "20"]
    assert float(table[0]["simulated_seconds"]) > 0


def test_the_articles_first_listing():
    page = "docs/from_the_article.md"
    assert "round 10/10  cohort 5" in run(page, "--task=mnist")
