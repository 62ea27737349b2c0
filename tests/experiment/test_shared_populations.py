"""Whom a shared ledger is about, whatever the seed."""

from __future__ import annotations

import pytest

import tfl_research as tfl
from tfl_research import privacy, tasks
from tfl_research.errors import SettingError
from tfl_research.experiment.private import shared_ledgers

EVENT = privacy.GaussianEvent("none", 1.0, 1.0, 40, 4.0, "add_or_remove_one")


def loans(seed):
    return tasks.get("loans", seed=seed, held_out_fraction=0.2)


def record(path, population):
    with privacy.SharedLedger(path, "0" * 16, population) as ledger:
        ledger.record(1, EVENT)


def test_clients_of_the_data_are_the_same_for_every_seed(tmp_path):
    """Although the seed says which of them train."""
    first, second = loans(0), loans(1)
    assert set(first.train.client_ids) != set(second.train.client_ids)
    everyone = {*first.train.client_ids, *first.held_out.client_ids}
    found = shared_ledgers.populations(first)[0]
    assert found == privacy.Population.of(everyone)
    assert found == shared_ledgers.populations(second)[0]
    path = str(tmp_path / "shared.jsonl")
    assert shared_ledgers.check(path, first, EVENT) == found
    record(path, found)
    assert shared_ledgers.check(path, second, EVENT) == found


def test_an_earlier_version_s_ledger_goes_on_with_the_same_clients(tmp_path):
    path = str(tmp_path / "shared.jsonl")
    old = privacy.Population.of(loans(0).train.client_ids)
    record(path, old)
    assert shared_ledgers.check(path, loans(0), EVENT) == old
    with pytest.raises(SettingError, match="about another population") as refused:
        shared_ledgers.check(path, loans(1), EVENT)
    assert "\n" not in str(refused.value)


def test_clients_that_a_seed_draws_are_others_for_another_seed(tmp_path):
    found = [
        shared_ledgers.populations(tasks.get("mnist", seed=seed)) for seed in (0, 0, 1)
    ]
    assert found[0] == found[1]
    assert found[0][0].clients == found[2][0].clients
    assert found[0] != found[2]
    path = str(tmp_path / "shared.jsonl")
    record(path, found[0][0])
    with pytest.raises(SettingError) as refused:
        shared_ledgers.check(path, tasks.get("mnist", seed=1), EVENT)
    assert "partition=iid draws the clients from pooled examples" in str(refused.value)
    assert "\n" not in str(refused.value)
    # Other options draw other clients, too.
    skewed = tasks.get("mnist", seed=0, partition="dirichlet")
    assert shared_ledgers.populations(skewed) != found[0]


def test_records_of_clients_that_a_seed_draws(tmp_path):
    folder = str(tmp_path / "ledgers")
    event = privacy.RecordEvent(1.0, 8.0, 4, 1, (("0", 90),))
    task = tasks.get("mnist", seed=0)
    shared_ledgers.check_clients(folder, task, event, (1e-3,))
    drawn = shared_ledgers.drawn_by(task)
    with privacy.ClientLedgers(
        folder, "0" * 16, event, (1e-3,), drawn_by=drawn
    ) as opened:
        opened.record(1, event)
    shared_ledgers.check_clients(folder, task, event, (1e-3,))
    with pytest.raises(SettingError, match="draws the clients from pooled examples"):
        shared_ledgers.check_clients(folder, tasks.get("mnist", seed=1), event, (1e-3,))


def test_what_a_run_says_first_of_its_shared_ledger(tmp_path):
    from tfl_research.privacy.ledger import ledger_budget
    from tfl_research.privacy.ledger.lines.budget import LedgerBudget

    path = tmp_path / "shared.jsonl"
    ledger_budget.write_budget(path, LedgerBudget(50.0, 1e-5))
    people = privacy.Population.of(map(str, range(1000)))
    fixed = privacy.GaussianEvent("fixed_size", 9.0, 0.05, 1000, 50.0, "replace_one")
    with privacy.SharedLedger(path, "f" * 16, people) as other:
        other.record(1, fixed)
    plan = privacy.UserLevelPlan.create(
        "gaussian",
        l2_norm_clip=1.0,
        amplification=tfl.sampling.Poisson(range(1000), 20, seed=1).amplification,
        rounds=3,
        noise_multiplier=1.0,
        delta=1e-5,
    )
    own = privacy.Ledger(tmp_path / "ledger.jsonl")
    shared = privacy.SharedLedger(path, "0" * 16, people)
    with own, shared:
        account = privacy.RoundAccount(own, plan, shared)
        together, budget = shared_ledgers.sentences(account)
        assert shared_ledgers.sentences(account, 3) == [together, budget]
        assert together.startswith(f"Together with the other runs of {path}: ε = ")
        assert "under replace_one (rounds under add_or_remove_one" in together
        assert f"{path} has a budget that binds all of its runs: ε = 50" in budget
    with privacy.Ledger(tmp_path / "alone.jsonl") as alone:
        account = privacy.RoundAccount(alone, plan)
        assert shared_ledgers.sentences(account, 3) == []
