"""Ledgers of an earlier version: they open, verify, and cost what they cost then."""

from __future__ import annotations

import json
import pathlib

import pytest

from tfl_research import privacy
from tfl_research.cli import privacy_ledger as ledger_cli
from tfl_research.privacy.ledger import spending

FOLDER = pathlib.Path(__file__).parents[2] / "golden" / "ledgers"
# By file: kinds, and ε at δ = 1e-5 of all rounds, by the tightest accountant and by
# Rényi DP, as commit c7d7d87 computed them; of the pure event, the exact numbers.
EXPECTED = {
    "cyclic_matrix.jsonl": ("banded_matrix", 1.4122488099564159, 1.6978919992115837),
    "dp_devices.jsonl": ("gaussian", 9.997256146434303, 10.725509696418232),
    "dp_discrete.jsonl": ("discrete_gaussian", 10.725509696418232, 10.725509696418232),
    "dp_fixed.jsonl": ("gaussian", 19.090914688599096, 20.802850223383004),
    "dp_gaussian.jsonl": ("gaussian", 6.67696101940211, 7.409733637376933),
    "dp_local.jsonl": ("local_gaussian", 24.38161088311368, 25.930920950267982),
    "dp_matrix.jsonl": ("banded_matrix", 6.572970067030336, 7.077391578166641),
    "dp_skellam.jsonl": ("skellam", 10.801691498680267, 10.801691498680267),
    "dp_tree.jsonl": ("tree", 35.83658204274528, 37.93175401905626),
    "pure.jsonl": ("pure", 1.499958535535733, 1.5),
    "record.jsonl": ("record_dp_sgd", 9.84634192997856, 10.985243834731548),
    "search.jsonl": ("hyperparameter_search", 1.2103672969104977, 1.2103672969104977),
    "record_ledgers/Cleveland.jsonl": (
        "record_dp_sgd",
        4.146203656119268,
        4.798110165910808,
    ),
    "record_ledgers/Hungary.jsonl": (
        "record_dp_sgd",
        4.287114805231848,
        4.9518842551886095,
    ),
    "record_ledgers/Switzerland.jsonl": (
        "record_dp_sgd",
        9.84634192997856,
        10.985243834731548,
    ),
    "record_ledgers/VA Long Beach.jsonl": (
        "record_dp_sgd",
        6.154277234906237,
        6.987443460788652,
    ),
}


def test_every_file_and_every_kind_of_event_is_covered():
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.jsonl")}
    assert there == {*EXPECTED, "shared.jsonl"}
    own = {kind for kind in privacy.EVENTS.names() if not privacy.EVENTS.origin(kind)}
    assert {kind for kind, _, _ in EXPECTED.values()} == own


@pytest.mark.parametrize("name", EXPECTED)
def test_epsilon_is_what_it_was(name):
    kind, tightest, by_rdp = EXPECTED[name]
    found = spending.read_ledger(FOLDER / name)
    (run,) = found.runs
    assert {event.kind for event in run.events} == {kind}
    # SciPy and NumPy may differ in the last digits.
    assert privacy.composed_epsilon(run.groups, 1e-5) == pytest.approx(
        tightest, rel=1e-9
    )
    assert privacy.composed_epsilon(run.groups, 1e-5, "rdp") == pytest.approx(
        by_rdp, rel=1e-9
    )


def test_a_shared_ledger_of_two_runs():
    found = spending.read_ledger(FOLDER / "shared.jsonl")
    alone = [privacy.composed_epsilon(run.groups, 1e-5) for run in found.runs]
    assert alone == pytest.approx([6.67696101940211, 2.5237220290905023], rel=1e-9)
    together = privacy.composed_epsilon(found.groups, 1e-5)
    assert together == pytest.approx(7.149541923119178, rel=1e-9)
    assert found.clients == 4


@pytest.mark.parametrize("name", [*EXPECTED, "shared.jsonl"])
def test_verify_finds_no_damage(name, capsys):
    assert ledger_cli.main(["verify", str(FOLDER / name)]) == 0
    assert "each follows the one before it" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", [name for name in EXPECTED if not name.startswith("record_ledgers")]
)
def test_the_same_rounds_are_written_byte_for_byte(name, tmp_path):
    (run,) = spending.read_ledger(FOLDER / name).runs
    with privacy.Ledger(tmp_path / "ledger.jsonl") as ledger:
        for number, event in enumerate(run.events, start=1):
            ledger.record(number, event)
    written = (tmp_path / "ledger.jsonl").read_bytes()
    assert written == (FOLDER / name).read_bytes()


def test_events_of_shared_ledgers_are_written_as_they_were():
    lines = (FOLDER / "shared.jsonl").read_text(encoding="utf-8").splitlines()
    for fields in map(json.loads, lines):
        event = privacy.event_from_dict(fields["event"])
        assert event.to_dict() == fields["event"]
