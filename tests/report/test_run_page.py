"""What a run's page shows: tiles, axes, silos, personal models, settings."""

from __future__ import annotations

import doctest
import html
import json
import re

import pytest

from tfl_research import report
from tfl_research.report import sweep_heading, words
from tfl_research.report.dashboard import access
from tfl_research.report.pictures import curves, panels
from tfl_research.report.run_page import headline, privacy_section, settings_section
from tfl_research.report.run_results import RunResults, read


@pytest.mark.parametrize("module", [words, sweep_heading, access])
def test_examples(module):
    tests = doctest.testmod(module)
    assert tests.attempted > 0
    assert tests.failed == 0


def results(**parts):
    """A run with these files, and nothing else."""
    empty = {
        "name": "run",
        "record": {},
        "metrics": {},
        "clients": [],
        "summary": {},
        "privacy": [],
        "columns": {},
    }
    return RunResults(**{**empty, **parts})


def tiles(**parts):
    return {tile.label: tile for tile in headline.tiles(results(**parts))}


ENDED = {
    "completed_rounds": 3,
    "planned_rounds": 4,
    "stop_reason": "budget",
    "untrained": {"eval_accuracy": 0.25, "eval_auc": 0.5},
    "final": {"round": 3, "eval_accuracy": 0.75, "eval_auc": 0.875},
    "best": {
        "round": 2,
        "eval_accuracy": 0.8125,
        "eval_auc": 0.9,
        "selected_by": "eval_auc",
        "value": 0.9,
    },
}
METRICS = {
    "round": [1.0, 2.0, 3.0],
    "eval_accuracy": [float("nan"), 0.8125, 0.75],
    "eval_auc": [float("nan"), 0.9, 0.875],
    "epsilon": [0.5, 0.75, 0.99991],
    "delta": [0.001] * 3,
    "bytes_down": [1000.0, 2000.0, 3000.0],
    "bytes_up": [500.0] * 3,
    "round_seconds": [4.0, 1.0, 1.0],
    "excluded_clients": [0.0, 2.0, 1.0],
}


def test_tiles_by_hand():
    record = {
        "hparams": {
            "task": "heart",
            "target_epsilon": 2.0,
            "num_train_clients": 4,
            "expected_cohort_size": 3.0,
        },
        "privacy_plan": {"unit": "client", "delta": 0.001},
    }
    found = tiles(record=record, metrics=METRICS, summary=ENDED)
    assert found["Accuracy"].value == "0.75"
    assert found["Accuracy"].notes == (
        "test examples; final model",
        "untrained model 0.25",
    )
    best = found["Best accuracy"]
    assert best.value == "0.8125"
    assert best.notes == ("round 2", "selected by AUC, test examples: 0.9")
    epsilon = found["Privacy loss ε"]
    # Rounded up, as everywhere.
    assert epsilon.value == "1"
    assert epsilon.share == pytest.approx(0.499955)
    assert epsilon.notes[:2] == ("of a target of 2", "δ = 0.001")
    rounds = found["Rounds"]
    assert (rounds.value, rounds.share) == ("3 of 4", 0.75)
    assert rounds.notes == ("the next round would exceed the privacy budget",)
    assert found["Time of the rounds"].value == "6 s"
    assert found["Time of the rounds"].notes[0] == "1 s a round (median)"
    assert found["Clients"].value == "4"
    assert "updates excluded, not finite: 3" in found["Clients"].notes
    assert found["Traffic"].value == "7.5 kB"


def test_a_private_run_that_withholds_has_no_such_tiles():
    metrics = {name: METRICS[name] for name in ("round", "epsilon", "delta")}
    summary = {**ENDED, "untrained": {}, "final": {"round": 3}, "best": None}
    found = tiles(metrics=metrics, summary=summary)
    assert set(found) == {"Metrics", "Privacy loss ε", "Rounds"}
    assert found["Metrics"].value == "withheld"


def test_a_run_without_privacy_has_no_tile_of_epsilon():
    metrics = {**METRICS, "epsilon": [float("inf")] * 3}
    assert "Privacy loss ε" not in tiles(metrics=metrics, summary=ENDED)


def test_personal_models_and_the_audit_have_tiles():
    personal = {
        "personal_client_mean_accuracy": 0.85,
        "global_client_mean_accuracy": 0.75,
        "gain_share_accuracy": 0.75,
    }
    bound = {"epsilon": 0.81689, "confidence": 0.95, "canaries": 50}
    found = tiles(
        metrics=METRICS,
        summary={**ENDED, "personal": personal},
        audit={"bound": bound, "contradicts": False},
    )
    assert found["Personal models: accuracy"].value == "0.85"
    assert found["Personal models: accuracy"].notes == (
        "mean of clients; the global model has 0.75",
        "better at 75% of the clients",
    )
    # A lower bound is rounded down.
    assert found["Audit: ε is at least"].value == "0.816"
    assert found["Audit: ε is at least"].notes[0] == "95% confidence, 50 canaries"
    lines = headline.banners(results(audit={"contradicts": True}, is_sabotaged=True))
    assert len(lines) == 2
    assert "nothing of this run is private" in lines[0]


def test_a_small_change_of_a_share_is_drawn_small():
    low, high, is_logarithmic = panels.axis("accuracy", [0.809, 0.804])
    assert high - low == pytest.approx(0.2)
    assert low < 0.804
    assert high > 0.809
    assert not is_logarithmic
    # Within 0 and 1, and of the same length, at the ends too.
    assert panels.axis("auc", [0.99, 1.0])[:2] == pytest.approx((0.8, 1.0))
    assert panels.axis("auc", [0.0, 0.02])[:2] == pytest.approx((0.0, 0.2))
    # A long range keeps a margin.
    assert panels.axis("accuracy", [0.1, 0.6])[:2] == pytest.approx((0.08, 0.62))
    assert panels.axis("loss", [0.5, 0.25])[:2] == pytest.approx((0, 0.53))
    assert panels.axis("loss", [0.5, 0.6, 1e9])[2]
    assert panels.axis("log_likelihood", [-3.0, -1.0])[:2] == pytest.approx(
        (-3.12, -0.88)
    )


def drawn(panel):
    return curves.draw(panel, "k").svg


def test_two_evaluations_are_points_and_no_curve():
    metrics = {"round": [10.0, 20.0], "eval_accuracy": [0.809, 0.804]}
    (panel,) = panels.of_metrics(metrics, {}, clients=4)
    (path,) = re.findall(r'<g id="k-s0">(.*?)</g>\s*</g>', drawn(panel), re.DOTALL)
    # Two markers, and no line from one to the other.
    assert path.count("<use ") == 2
    assert " L " not in re.sub(r"<defs>.*?</defs>", "", path, flags=re.DOTALL)
    # With the untrained model they are three.
    (panel,) = panels.of_metrics(metrics, {"eval_accuracy": 0.4}, clients=4)
    assert panel.series[0].rounds == (0.0, 10.0, 20.0)


@pytest.mark.parametrize(
    ("clients", "label"), [(4, "client"), (10, "client"), (11, "tenth of clients")]
)
def test_the_worst_tenth_of_few_clients_is_the_worst_client(clients, label):
    metrics = {
        "round": [1.0],
        "eval_accuracy": [0.5],
        "eval_client_worst_accuracy": [0.1],
        "eval_client_worst_decile_accuracy": [0.2],
    }
    (panel,) = panels.of_metrics(metrics, {}, clients=clients)
    assert [s.label for s in panel.series] == ["test examples", f"worst {label}"]


def test_the_metric_that_selects_comes_first():
    metrics = {"round": [1.0], "eval_loss": [1.0], "eval_accuracy": [0.5]}
    metrics["eval_pr_auc"] = [0.7]
    found = panels.of_metrics(metrics, {}, clients=None, first="pr_auc")
    assert [panel.title for panel in found] == ["PR AUC", "Accuracy", "Loss"]


def test_quantities_that_never_change_are_left_out():
    rounds = {"round": [1.0, 2.0], "cohort_size": [4.0, 4.0], "clip_norm": [1.0, 0.5]}
    titles = [panel.title for panel in panels.of_rounds(rounds)]
    assert titles == ["Clip and noise"]
    excluded = {**rounds, "excluded_clients": [0.0, 1.0]}
    (clients, _) = panels.of_rounds(excluded)
    assert [one.label for one in clients.series] == [
        "took part",
        "excluded: update not finite",
    ]
    traffic = panels.of_rounds({"round": [1.0, 2.0], "bytes_down": [1e6, 2e6]})
    assert traffic[0].series[0].values == (0.0, 1.0, 3.0)
    assert traffic[0].title == "Traffic so far, MB"


def test_epsilon_has_the_line_of_its_budget():
    metrics = {"round": [1.0, 2.0], "epsilon": [1.0, 2.0], "shared_epsilon": [1.0, 2.0]}
    (panel,) = panels.of_privacy(metrics, (8.0, "budget"))
    assert panel.limit == (8.0, "budget 8")
    assert (panel.low, panel.high) == pytest.approx((0, 9.6))
    # A run that is alone in its ledger has one curve.
    assert len(panel.series) == 1
    assert panels.of_privacy({"round": [1.0], "epsilon": [float("inf")]}, None) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (6.67456, "6.675"),
        (3.99891, "3.999"),
        (3.9990001, "4"),
        (float("inf"), "∞"),
        (0.0, "0"),
    ],
)
def test_one_epsilon_is_the_same_text_everywhere(value, text):
    assert words.bound(value) == text
    assert words.number(value, "epsilon") == text
    assert words.number(str(value), "shared_epsilon") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0351, "35.1 ms"), (2.14, "2.14 s"), (250, "4 min 10 s"), (11100, "3 h 5 min")],
)
def test_times_in_words(seconds, text):
    assert words.duration(seconds) == text


def test_settings_that_differ_come_first():
    hparams = {"rounds": 20, "task": "heart", "bands": None, "plugins": []}
    hparams.update(seed=0.0, momentum=0.123456789)
    record = {"hparams": hparams, "changed_from": {"rounds": 100, "task": None}}
    found = settings_section.section(results(record=record))
    assert found["changed"] == [("rounds", "20", "100"), ("task", "heart", "not set")]
    assert found["others"] == [("momentum", "0.123456789"), ("seed", "0")]
    assert found["unset"] == ["bands", "plugins"]
    # An older run does not say what differs.
    old = settings_section.section(results(record={"hparams": hparams}))
    assert (old["knows_defaults"], old["changed"]) == (False, [])


def test_the_table_of_the_statement():
    lines = [
        "1. Guarantee",
        "   Neighbouring relation: add or remove one record.",
        "    δ              ε (PLD)     ε (RDP)",
        "    0.001            3.999       4.527",
        "    1e-05            5.575       6.052",
        "",
        "2. Mechanism",
    ]
    head, rows = privacy_section.delta_table(lines)
    assert head == ["δ", "ε (PLD)", "ε (RDP)"]
    assert rows == [["0.001", "3.999", "4.527"], ["1e-05", "5.575", "6.052"]]
    assert privacy_section.delta_table(lines[:2]) == ([], [])
    found = privacy_section.section(
        results(privacy=lines, metrics=METRICS, record={"privacy_plan": {}})
    )
    assert "Neighbouring relation: add or remove one record." in found["facts"]
    assert "2. Mechanism" in found["statement"]


def test_silos_are_drawn_with_their_personal_models(tmp_path):
    hparams = {"task": "heart", "num_train_clients": 2}
    record = {"experiment": "federated", "hparams": hparams}
    (tmp_path / "hparams.json").write_text(json.dumps(record))
    (tmp_path / "metrics.csv").write_text("round,eval_accuracy\n1,0.5\n")
    (tmp_path / "clients.csv").write_text(
        "model,split,client_id,examples,accuracy\n"
        "final,eval,north $1$,3,0.5\nfinal,eval,south,5,0.75\n"
    )
    (tmp_path / "personal_clients.csv").write_text(
        "client_id,examples,train_examples,global_accuracy,personal_accuracy\n"
        "north $1$,3,9,0.5,0.625\nsouth,5,9,0.75,0.875\n"
    )
    (tmp_path / "client_epsilon.csv").write_text(
        "round,client_id,records,epsilon\n1,south,5,0.5\n"
        "2,north $1$,3,1.23456\n2,south,5,0.75\n"
    )
    assert [row["epsilon"] for row in read(tmp_path).spent] == ["1.23456", "0.75"]
    content = report.write(tmp_path).read_text(encoding="utf-8")
    text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", content)).split())
    assert (
        "Final model: from 0.5 at north $1$ to 0.75 at south; personal model: from "
        "0.625 at north $1$ to 0.875 at south."
    ) in text
    assert "Records: from 0.75 at south to 1.235 at north $1$." in text
    # The name as it is, and no formula.
    assert re.search(r"<text [^>]*>north \$1\$</text>", content)
    assert "north $1$ 3 1.235" in text
