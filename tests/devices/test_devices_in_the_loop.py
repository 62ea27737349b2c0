"""Simulated devices in the round loop: abandoned rounds, budgets, resumed runs."""

from __future__ import annotations

import functools
import io
import math

import fake_rounds as fake
import numpy as np
import pytest
from few_devices import ALWAYS

from tfl_research import devices


class TestTheRoundLoop:
    """On the NumPy engine: abandoned rounds in the midst of others."""

    def rounds(self, **changes):
        data = devices.registered(fake.clients(), 200)
        settings = {"cohort_size": 6, "minimum_cohort": 5, "report_deadline": 15.0}
        settings.update(changes)
        speeds = devices.Speeds(seconds_per_example=1.0)
        population = devices.DevicePopulation(200, 1, speeds, ALWAYS)
        return devices.SynchronousRounds(
            population, data, bytes_down=10, bytes_up=10, over_selection=1.0, **settings
        )

    def test_an_abandoned_round_keeps_state_and_epsilon(self, tmp_path):
        rounds = self.rounds()
        gone = [r for r in range(1, 13) if rounds.outcome(r).abandoned]
        assert 0 < len(gone) < 12
        seen = {}

        class Watching(fake.Engine):
            def next(self, state, cohort):
                new, metrics = super().next(state, cohort)
                seen[int(new.client_work)] = cohort.client_ids
                return new, metrics

        stream = io.StringIO()
        result, cells = fake.run(tmp_path, rounds, 12, Watching(7), stream)
        assert int(result.state.client_work) == 12 - len(gone)
        done = 0
        for number, row in enumerate(cells, start=1):
            abandoned = number in gone
            done += not abandoned
            assert row["abandoned"] == str(int(abandoned))
            assert float(row["epsilon"]) == pytest.approx(math.sqrt(done) / 10)
            if abandoned:
                assert (row["cohort_size"], row["train_loss"]) == ("0", "")
            else:
                assert seen[done] == rounds.sample(number)
        # The ledger counts releases, and has no gap.
        assert fake.ledger(tmp_path) == list(range(1, done + 1))
        lines = [x for x in stream.getvalue().splitlines() if "  abandoned  " in x]
        assert len(lines) == len(gone)
        for line in lines:
            # How many were selected is exact.
            covered, _, exact = line.partition(" | not covered: ")
            assert "selected" not in covered
            assert "  selected 6  " in exact

    def test_the_budget_counts_releases(self, tmp_path):
        rounds = self.rounds()
        result, _ = fake.run(tmp_path, rounds, 40, fake.Engine(7), budget=0.21)
        # ε after 4 releases is 0.2, after 5 it is 0.2236.
        assert result.stop_reason == "budget"
        assert fake.ledger(tmp_path) == [1, 2, 3, 4]
        assert result.completed_rounds == 4 + rounds.abandoned_before(
            result.completed_rounds + 1
        )

    def test_what_clients_noised_is_charged_in_abandoned_rounds(self, tmp_path):
        rounds = self.rounds()
        gone = [r for r in range(1, 13) if rounds.outcome(r).abandoned]
        result, cells = fake.run(tmp_path, rounds, 12, account=fake.ClientsNoise)
        assert int(result.state.client_work) == 12 - len(gone) < 12
        assert fake.ledger(tmp_path) == list(range(1, 13))
        for number, row in enumerate(cells, start=1):
            assert float(row["epsilon"]) == pytest.approx(math.sqrt(number) / 10)

    def test_the_budget_can_end_before_an_abandoned_round(self, tmp_path):
        rounds = self.rounds()
        first = next(r for r in range(2, 13) if rounds.outcome(r).abandoned)
        account = functools.partial(fake.SpentElsewhere, last=first - 1)
        result, cells = fake.run(tmp_path, rounds, 12, account=account)
        assert result.stop_reason == "budget"
        assert len(cells) == result.completed_rounds == first - 1
        assert fake.ledger(tmp_path) == list(range(1, first))

    def test_resumed_equals_uninterrupted(self, tmp_path):
        whole, cells = fake.run(tmp_path / "a", self.rounds(partial_work=True), 9)
        fake.run(tmp_path / "b", self.rounds(partial_work=True), 4)
        parts, again = fake.run(tmp_path / "b", self.rounds(partial_work=True), 9)
        for row in (*cells, *again):
            row.pop("round_seconds")
        assert cells == again
        for one, two in zip(
            whole.state.global_model_weights.trainable,
            parts.state.global_model_weights.trainable,
        ):
            np.testing.assert_array_equal(one, two)
        assert fake.ledger(tmp_path / "a") == fake.ledger(tmp_path / "b")
