"""Pages as a reader sees them: in Chromium, wide and narrow, light and dark."""

from __future__ import annotations

import json
import math

import in_chromium
import pytest

from tfl_research import report
from tfl_research.report.dashboard.app import Dashboard
from tfl_research.report.dashboard.watched import Watched

if in_chromium.chromium() is None:
    pytest.skip("needs Chromium, which is not installed", allow_module_level=True)

WIDTHS = (1280, 390)
# What is too wide, what hides its last column without a word, and what axe-core finds.
LOOK = """
const wide = document.documentElement.scrollWidth - innerWidth;
const holders = [...document.querySelectorAll(".holder > .scroll")];
const hiding = holders.filter((one) =>
  one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 2 &&
  getComputedStyle(one.previousElementSibling).display === "none");
const small = [...document.querySelectorAll("p, td, th, dd, dt, figcaption, button")]
  .filter((one) => parseFloat(getComputedStyle(one).fontSize) < 12);
const page = getComputedStyle(document.body).backgroundColor;
const plots = [...document.querySelectorAll(".plot svg")]
  .map((one) => one.getBoundingClientRect().width).filter((width) => width > 0);
document.querySelectorAll("details").forEach((one) => { one.open = true; });
const axed = window.axe ? (await axe.run()).violations.map(
  (one) => one.impact + " " + one.id + ": " + one.nodes[0].target) : null;
return { wide, hiding: hiding.length, small: small.length, page, axed,
         narrowest: Math.min(...plots) };
"""
# Sorts a table, hides a curve, and reads values by keyboard.
USE = """
const table = document.querySelector("#clients table.sortable");
const buttons = table.querySelectorAll("th button.sort");
buttons[1].click();
const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
const ascending = names();
buttons[1].click();
const descending = names();
const pressed = table.tHead.rows[0].cells[1].getAttribute("aria-sort");
const entry = document.querySelector(".legend button");
const curve = document.getElementById(entry.dataset.curve);
entry.click();
const hidden = curve.style.display;
entry.click();
const plot = document.querySelector(".plot[data-values]");
const caption = plot.parentElement.querySelector("figcaption");
const before = caption.textContent;
const press = (key) => plot.dispatchEvent(new KeyboardEvent("keydown", { key }));
press("ArrowLeft");
press("ArrowLeft");
const read = caption.textContent;
press("Escape");
return { ascending, descending, pressed, hidden, shown: curve.style.display, read,
         same: caption.textContent === before };
"""


def write_run(folder, *, seed=0, private=True):
    folder.mkdir()
    hparams = {"task": "heart", "rounds": 12, "seed": seed, "num_train_clients": 12}
    hparams.update({"expected_cohort_size": 12.0, "target_epsilon": 4.0, "bands": None})
    record = {
        "experiment": "dp_fed_avg",
        "hparams": hparams,
        "changed_from": {"rounds": 100},
        "versions": {"tensorflow": "2.14.1"},
    }
    if private:
        record["privacy_plan"] = {"unit": "client", "delta": 0.001}
    (folder / "hparams.json").write_text(json.dumps(record))
    lines = [
        "round,train_accuracy,eval_loss,eval_accuracy,eval_client_worst_decile_accuracy,"
        "epsilon,delta,bytes_down,bytes_up,round_seconds"
    ]
    for i in range(1, 13):
        epsilon = math.sqrt(i) if private else "inf"
        accuracy = 0.9 - 0.5 / i - 0.01 * seed
        lines.append(
            f"{i},{accuracy + 0.02},{0.7 / i + 0.2},{accuracy},{accuracy - 0.2},"
            f"{epsilon},0.001,20000,10000,0.1"
        )
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    final = {"round": 12, "eval_loss": 0.26, "eval_accuracy": 0.858}
    summary = {
        "completed_rounds": 12,
        "stop_reason": "rounds",
        "untrained": {"eval_loss": 0.69, "eval_accuracy": 0.4},
        "final": final,
        "best": {**final, "selected_by": "eval_accuracy", "value": 0.858},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    rows = [
        f"final,eval,a hospital with a long name {i},{7 * i % 12 + 1},0.{30 + i},0.{i}"
        for i in range(12)
    ]
    header = "model,split,client_id,examples,loss,accuracy"
    (folder / "clients.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "privacy.txt").write_text(
        "Privacy statement\n\n1. Guarantee\n   Neighbouring relation: add or remove "
        "one client.\n\n    δ              ε (PLD)\n    0.001            3.465\n"
    )
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    from werkzeug.test import Client

    root = tmp_path_factory.mktemp("runs")
    first = write_run(root / "first")
    others = [write_run(root / f"s{i}", seed=i, private=False) for i in (1, 2)]
    running = write_run(root / "running")
    (running / "summary.json").unlink()
    compared = report.compare([first, *others], root / "comparison.html")
    client = Client(Dashboard(Watched(root)))
    return {
        "run": report.write(first).read_text(encoding="utf-8"),
        "comparison": compared.read_text(encoding="utf-8"),
        "dashboard": client.get("/").text,
    }


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_fit_are_readable_and_accessible(pages, dark):
    found = in_chromium.probed(pages, LOOK, widths=WIDTHS, dark=dark)
    assert set(found) == {f"{name} {width}" for name in pages for width in WIDTHS}
    for key, seen in found.items():
        assert isinstance(seen, dict), (key, seen)
        assert seen["wide"] <= 0, key
        assert seen["hiding"] == 0, key
        assert seen["small"] == 0, key
        wanted = "rgb(16, 21, 27)" if dark else "rgb(246, 247, 249)"
        assert seen["page"] == wanted, key
        if "dashboard" not in key:
            assert seen["narrowest"] > 280, key
        assert not seen["axed"], (key, seen["axed"])
    if in_chromium.axe() is None:
        pytest.skip("all but axe-core passed, which needs `npm install axe-core`")


def test_a_reader_sorts_hides_and_reads_values(pages):
    found = in_chromium.probed({"run": pages["run"]}, USE, widths=(1280,))["run 1280"]
    assert isinstance(found, dict), found
    # Clients by the number of their examples, 7 i % 12 + 1.
    order = sorted(range(12), key=lambda i: 7 * i % 12 + 1)
    names = [f"a hospital with a long name {i}" for i in order]
    assert found["ascending"] == names
    assert found["descending"] == names[::-1]
    assert found["pressed"] == "descending"
    assert (found["hidden"], found["shown"]) == ("none", "")
    # The last round first, then the one before it: 0.9 - 0.5 / 11.
    assert found["read"].startswith("round 11. test examples: 0.8545; ")
    assert found["same"]


def test_the_page_runs_under_its_own_policy(pages, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(pages["run"], encoding="utf-8")
    assert '<button class="sort"' in in_chromium.dom(path.as_uri())
    # Another script in its place has another hash, and does not run.
    path.write_text(pages["run"].replace('"use strict";', '"use strict"; '))
    assert '<button class="sort"' not in in_chromium.dom(path.as_uri())
