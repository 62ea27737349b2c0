"""The round loop with clients that keep states, on the NumPy engine."""

from __future__ import annotations

import dataclasses

import fake_experiment as fake
import numpy as np

from tfl_research import storage

SKIPPED = 4


@dataclasses.dataclass
class Spec:
    initial: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(2, np.float32)
    )
    capacity: int = 8


class Engine(fake.Engine):
    """Every client counts its rounds; one round is skipped by the aggregator."""

    def next(self, state, cohort):
        new, metrics = super().next(state, cohort)
        stacked = cohort.stacked(num_clients=Spec().capacity)
        number = int(new.client_work)
        metrics["client_states"] = stacked["client_state"] + [1, number]
        metrics["aggregator"]["skipped"] = np.int32(number == SKIPPED)
        return new, metrics


def states_of(folder):
    table = storage.ClientStates(folder / "client_states.sqlite", Spec())
    found = table.rows(fake.Sampler().client_ids)
    table.close()
    return found


def expected(rounds):
    sampler = fake.Sampler()
    found = np.zeros((len(sampler.client_ids), 2), np.float32)
    for number in range(1, rounds + 1):
        for client_id in sampler.sample(number):
            if number != SKIPPED:
                found[sampler.client_ids.index(client_id)] += [1, number]
    return found


def run(folder, rounds, **options):
    config = fake.config(rounds=rounds, checkpoint_every=2)
    return fake.run(
        folder, config=config, engine=Engine(7), client_states=Spec(), **options
    )


def test_a_skipped_round_leaves_clients_as_they_were(tmp_path):
    assert fake.Sampler().sample(SKIPPED)
    run(tmp_path / "run", 6)
    np.testing.assert_array_equal(states_of(tmp_path / "run"), expected(6))


def test_states_go_back_to_the_checkpoint_that_a_run_goes_on_from(tmp_path):
    run(tmp_path / "run", 5)
    # As after a kill: the last checkpoint is that of round 4.
    (tmp_path / "run" / "checkpoints" / "round-00000005.ckpt").unlink()
    run(tmp_path / "run", 6)
    np.testing.assert_array_equal(states_of(tmp_path / "run"), expected(6))


def test_states_are_durable_before_the_checkpoint_that_counts_on_them(
    tmp_path, monkeypatch
):
    done = []
    for owner, name in (
        (storage.ClientStates, "sync"),
        (storage.CheckpointStore, "save"),
        (storage.ClientStates, "drop_outdated"),
    ):
        original = getattr(owner, name)

        def noted(self, *arguments, _name=name, _original=original):
            done.append(_name)
            return _original(self, *arguments)

        monkeypatch.setattr(owner, name, noted)
    run(tmp_path / "run", 2)
    assert done == ["sync", "save", "drop_outdated"]
