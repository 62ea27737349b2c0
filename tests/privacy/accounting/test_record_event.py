"""Record-level events and accounts: ε of every client against dp-accounting."""

from __future__ import annotations

import csv
import dataclasses
import json
import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp

from tfl_research import data, privacy
from tfl_research.privacy.ledger.accounts.record_account import COLUMNS
from tfl_research.privacy.ledger.statements.statement import privacy_statement

EVENT = privacy.RecordEvent(
    noise_multiplier=1.1,
    expected_batch_size=16.0,
    local_steps=5,
    microbatch_size=1,
    clients=(("large", 400), ("small", 64), ("none", 0), ("tiny", 10)),
)


def dp_event(event, records):
    """A local step, described without this package."""
    noise = dp_accounting.GaussianDpEvent(
        event.noise_multiplier / (1 if event.microbatch_size == 1 else 2)
    )
    if records <= event.expected_batch_size:
        return noise
    rate = event.expected_batch_size / records
    return dp_accounting.PoissonSampledDpEvent(rate, noise)


def independent_epsilon(event, records, steps, delta, accountant=pld.PLDAccountant):
    one = accountant()
    one.compose(dp_event(event, records), steps)
    return one.get_epsilon(delta)


class TestEpsilon:
    @pytest.mark.parametrize(("index", "microbatch_size"), [(0, 1), (1, 4), (3, 1)])
    def test_pld_is_that_of_dp_accounting(self, index, microbatch_size):
        event = dataclasses.replace(EVENT, microbatch_size=microbatch_size)
        records = event.clients[index][1]
        curve = event.of_client(index).epsilon_curve(12, 1e-4, "pld")
        assert len(curve) == 12
        for rounds in (1, 12):
            expected = independent_epsilon(event, records, 5 * rounds, 1e-4)
            assert curve[rounds - 1] == pytest.approx(expected, rel=2e-3)

    @pytest.mark.parametrize("index", [0, 1, 3])
    def test_rdp_is_that_of_dp_accounting(self, index):
        client = EVENT.of_client(index)
        records = EVENT.clients[index][1]
        for rounds in (1, 12):
            expected = independent_epsilon(
                EVENT, records, 5 * rounds, 1e-4, rdp.RdpAccountant
            )
            found = client.epsilon_curve(12, 1e-4, "rdp")[rounds - 1]
            assert found == pytest.approx(expected, rel=1e-6)
            orders = np.array([2.0, 5.0, 17.0])
            composed = rdp.RdpAccountant(orders)
            composed.compose(dp_event(EVENT, records), 5 * rounds)
            np.testing.assert_allclose(client.rdp(rounds, orders), composed.rdp)

    def test_the_event_is_charged_as_its_most_sampled_client(self):
        whole = EVENT.epsilon_curve(6, 1e-4, "pld")
        clients = [
            EVENT.of_client(k).epsilon_curve(6, 1e-4, "pld")
            for k in range(len(EVENT.clients))
        ]
        np.testing.assert_array_equal(whole, np.max(clients, axis=0))
        assert not clients[2].any()
        assert EVENT.epsilon(6, 1e-4, "pld") == pytest.approx(whole[-1], rel=1e-9)

    def test_a_shorter_curve_begins_a_longer_one(self):
        client = EVENT.of_client(1)
        long = client.epsilon_curve(30, 1e-4, "pld")
        np.testing.assert_array_equal(client.epsilon_curve(7, 1e-4, "pld"), long[:7])
        assert (np.diff(long) > 0).all()

    def test_microbatches_cost_what_half_the_noise_does(self):
        event = dataclasses.replace(EVENT, microbatch_size=4)
        half = dataclasses.replace(EVENT, noise_multiplier=0.55)
        np.testing.assert_allclose(
            event.epsilon_curve(3, 1e-4, "pld"), half.epsilon_curve(3, 1e-4, "pld")
        )
        assert event.sensitivity == 2

    def test_zcdp_leaves_sampling_out(self):
        assert EVENT.zcdp(3) == pytest.approx(3 * 5 / (2 * 1.1**2))

    def test_without_noise_there_is_no_privacy(self):
        event = dataclasses.replace(EVENT, noise_multiplier=0.0)
        assert np.isinf(event.epsilon_curve(2, 1e-4, "pld")).all()
        assert np.isinf(event.rdp(1, np.array([2.0]))).all()
        assert math.isinf(event.zcdp(1))

    def test_nobody_with_records_costs_nothing(self):
        event = dataclasses.replace(EVENT, clients=(("none", 0),))
        assert not event.epsilon_curve(3, 1e-4, "pld").any()
        assert event.epsilon(3, 1e-4, "rdp") == 0
        assert event.zcdp(3) == 0
        assert not event.rdp(3, np.array([2.0])).any()


class TestEvent:
    def test_of_client_data(self):
        clients = data.ClientData.from_arrays(
            {
                name: {"x": np.zeros((n, 2), np.float32), "y": np.zeros(n, np.int32)}
                for name, n in EVENT.clients
            },
            data.PoissonBatching(5, 16.0),
        )
        assert privacy.RecordEvent.of(1.1, clients) == EVENT
        np.testing.assert_allclose(EVENT.sampling_rates, [0.04, 0.25, 1.0, 1.0])
        with pytest.raises(ValueError, match="drawn by Poisson sampling"):
            privacy.RecordEvent.of(1.1, clients.with_batching(data.Batching()))

    def test_survives_json(self):
        text = json.dumps(EVENT.to_dict())
        assert privacy.event_from_dict(json.loads(text)) == EVENT
        assert json.loads(text)["kind"] == "record_dp_sgd"

    def test_says_what_it_covers(self):
        text = privacy_statement(
            dataclasses.replace(EVENT, microbatch_size=4),
            delta=1e-4,
            accountant="pld",
            planned_rounds=3,
        )
        plain = " ".join(text.split())
        for words in (
            "one record of one client",
            "add or remove one record",
            "arXiv 1607.00133",
            "half the noise multiplier",
            "min(1, 16 / records), 0.04 to 1 in 3 clients of 10 to 400 records",
            "against the server, the other clients",
            "charged 5 local steps in every round",
        ):
            assert words in plain

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"noise_multiplier": -1.0}, "noise_multiplier must be at least 0"),
            ({"expected_batch_size": 0.0}, "expected_batch_size must be above 0"),
            ({"local_steps": 0}, "steps must be at least 1"),
            ({"microbatch_size": 17}, "microbatch_size must be at most"),
            ({"clients": ()}, "at least one name"),
            ({"clients": (("a", 1), ("a", 2))}, "different names"),
            ({"clients": (("a", -1),)}, "at least 0 records"),
        ],
    )
    def test_impossible_fields_are_refused(self, changes, message):
        with pytest.raises(ValueError, match=message):
            dataclasses.replace(EVENT, **changes)

    def test_an_accountant_that_does_not_exist_is_refused(self):
        with pytest.raises(ValueError, match="'pld' or 'rdp'"):
            EVENT.epsilon_curve(1, 1e-4, "gdp")


class TestCalibration:
    def test_is_the_least_noise_that_no_client_exceeds(self):
        """The deltas are such that neither client alone decides every target."""
        deltas = (1e-9, 1e-2, 1e-3, 1e-2)
        event = dataclasses.replace(EVENT, clients=EVENT.clients[:3])

        def largest(z):
            noised = dataclasses.replace(event, noise_multiplier=z)
            return max(
                noised.of_client(k).epsilon(10, delta, "pld")
                for k, delta in enumerate(deltas[:3])
            )

        found = privacy.calibrate_record_noise(event, 2.0, 10, deltas[:3], "pld")
        assert largest(found) <= 2.0 < largest(found - 0.001)

    def test_without_records_there_is_nothing_to_calibrate(self):
        event = dataclasses.replace(EVENT, clients=(("none", 0),))
        with pytest.raises(ValueError, match="no client holds records"):
            privacy.calibrate_record_noise(event, 2.0, 10, (1e-3,))

    def test_default_deltas_follow_the_records(self):
        event = dataclasses.replace(EVENT, clients=(("a", 100_000), ("b", 20)))
        large, small = privacy.default_record_deltas(event)
        assert large == pytest.approx(100_000**-1.1)
        assert small == 1e-3


class TestAccount:
    DELTAS = (1e-5, 1e-3, 1e-3, 1e-3)

    def account(self, ledger, folder, **changes):
        plan = privacy.RecordLevelPlan(EVENT, 1.0, self.DELTAS, "pld", 4)
        plan = dataclasses.replace(plan, **changes)
        return privacy.RecordAccount(ledger, plan, table_path=folder / "client.csv")

    @staticmethod
    def table(folder):
        with open(folder / "client.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def test_charges_every_client_and_reports_the_largest(self, tmp_path):
        with privacy.Ledger(tmp_path / "ledger.jsonl") as ledger:
            account = self.account(ledger, tmp_path)
            found = [account.charge(number) for number in (1, 2)]
        table = self.table(tmp_path)
        assert tuple(table[0]) == COLUMNS
        assert [r["client_id"] for r in table] == ["large", "small", "none", "tiny"] * 2
        for row in table:
            if row["client_id"] == "none":
                assert float(row["epsilon"]) == 0
            elif row["round"] == "2":
                expected = independent_epsilon(
                    EVENT, int(row["records"]), 10, float(row["delta"])
                )
                assert float(row["epsilon"]) == pytest.approx(expected, rel=2e-3)
        assert found[1] == pytest.approx(max(float(r["epsilon"]) for r in table))
        assert account.delta == 1e-3
        assert account.noise_multiplier == 1.1

    def test_a_small_delta_can_make_a_large_client_the_worst(self, tmp_path):
        event = dataclasses.replace(EVENT, clients=(("large", 100), ("small", 64)))
        with privacy.Ledger(tmp_path / "ledger.jsonl") as ledger:
            plan = privacy.RecordLevelPlan(event, 1.0, (1e-12, 1e-2), "pld", 2)
            account = privacy.RecordAccount(ledger, plan)
            epsilons = account.client_epsilons(2)
            assert account.charge(1) == account.client_epsilons(1)[0]
        assert epsilons[0] > epsilons[1]

    def test_a_resumed_account_has_the_same_table(self, tmp_path):
        for name, stops in (("whole", []), ("resumed", [1, 3])):
            folder = tmp_path / name
            folder.mkdir()
            spent = []
            for first, last in zip([0, *stops], [*stops, 4]):
                with privacy.Ledger(folder / "ledger.jsonl") as ledger:
                    account = self.account(ledger, folder)
                    # A resumed run repeats the round before.
                    for number in range(max(first, 1), last + 1):
                        spent.append(account.charge(number))
                if last < 4:
                    with open(folder / "client.csv", "a", encoding="utf-8") as file:
                        file.write("4,larg")  # what a kill leaves behind
            if name == "whole":
                expected = spent
            assert spent[-1] == expected[-1]
        whole, resumed = (
            (tmp_path / name / "client.csv").read_bytes()
            for name in ("whole", "resumed")
        )
        assert whole == resumed

    def test_stops_before_the_budget(self, tmp_path):
        with privacy.Ledger(tmp_path / "ledger.jsonl") as ledger:
            account = self.account(ledger, tmp_path)
            account.budget_epsilon = account.epsilon_after(2)
            assert not account.would_exceed(2)
            assert account.would_exceed(3)

    def test_another_runs_ledger_is_refused(self, tmp_path):
        with privacy.Ledger(tmp_path / "ledger.jsonl") as ledger:
            ledger.record(1, dataclasses.replace(EVENT, noise_multiplier=2.0))
            with pytest.raises(ValueError, match="other clients or privacy settings"):
                self.account(ledger, tmp_path)

    def test_needs_a_delta_for_each_client(self):
        with pytest.raises(ValueError, match="one for each of 4 clients, got 1"):
            privacy.RecordLevelPlan(EVENT, 1.0, (1e-3,), "pld", 4)

    def test_notes_name_every_client(self, tmp_path):
        with privacy.Ledger(tmp_path / "ledger.jsonl") as ledger:
            notes = "\n".join(self.account(ledger, tmp_path).statement_notes(4))
        assert "- large: 400 records, sampling rate 0.04, ε = " in notes
        assert notes.count("\n") == 4
