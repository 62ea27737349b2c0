"""What holds for every algorithm: its paper, whoever comes, and whoever does not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import rounds
import tensorflow as tf
import tensorflow_federated as tff
import twins

from tfl_research import algorithms, clients, privacy, processes

names = pytest.mark.parametrize("name", rounds.ALGORITHMS)


def cohorts(task, name, *rounds_of_clients):
    """Fresh clients, each round for as many exchanges as the algorithm needs."""
    found = []
    for members in rounds_of_clients:
        for _ in range(2 if name == "mime" else 1):
            drawn = task.train.cohort(members, seed=0, round_number=len(found) + 1)
            if name == "fed_buff":
                drawn = drawn.with_members(staleness=np.zeros(len(members), np.int32))
            found.append(drawn)
    return found


def everything(run):
    """The server's state after all rounds, and what clients keep."""
    state = run.states[-1]
    kept = () if run.table is None else run.table.rows(tuple(rounds.SIZES))
    return tf.nest.flatten(
        (state.global_model_weights.trainable, state.finalizer, kept)
    )


@pytest.fixture(scope="module")
def poisoned(make_linear_task):
    """The six clients, of whom "a" and "f" hold a NaN."""
    held = rounds.examples()
    for name in ("a", "f"):
        held[name][0][0, 0] = np.nan
    return make_linear_task(held, rounds.BATCHING)


def test_each_has_a_version_by_hand():
    assert set(twins.TWINS) == set(rounds.ALGORITHMS)


@names
def test_three_rounds_are_the_papers(run_algorithm, name):
    """Models after each round, and what server and clients remember."""
    ours, twin = run_algorithm(name), twins.TWINS[name]
    exchanges = 2 if name == "mime" else 1
    expected = twin.path(rounds.paper_rounds())
    assert len(expected) == 3
    assert len(ours.states) == 3 * exchanges
    for index, theta in enumerate(twin.models(rounds.paper_rounds()), start=1):
        rounds.assert_close(ours.weights(exchanges * index - 1), theta)
    if twin.server is not None:
        place, memory = twin.server
        for index, found in enumerate(expected, start=1):
            state = ours.server(exchanges * index - 1)
            rounds.assert_close(memory(state), found[place])
    assert (ours.table is None) == (twin.clients is None)
    if twin.clients is not None:
        place, memory = twin.clients
        kept = expected[-1][place]
        # All but the client without examples.
        assert set("abcdf") <= set(kept)
        for client, wanted in kept.items():
            rounds.assert_close(memory(ours.table.rows([client])[0]), wanted)


@names
def test_a_client_alone_is_the_papers(six_clients, name):
    alone = (("c",), ("c",))
    ours = rounds.run(
        rounds.built(name, six_clients), cohorts(six_clients, name, *alone)
    )
    paper_rounds = rounds.paper_rounds(alone, ({}, {}))
    if name == "fed_buff":
        expected = twins.TWINS["fed_avg"].models(paper_rounds)
    else:
        expected = twins.TWINS[name].models(paper_rounds)
    rounds.assert_close(ours.weights(), expected[-1])


@names
def test_who_has_no_examples_or_a_nan_is_as_if_not_asked(six_clients, poisoned, name):
    process = rounds.built(name, six_clients)
    first = cohorts(six_clients, name, ("a", "b"))
    asked = cohorts(poisoned, name, ("a", "c", "e"))
    ours = rounds.run(process, first + asked)
    # A buffer counts the zero update of a client without examples.
    counting = ("c", "e") if name == "fed_buff" else ("c",)
    expected = rounds.run(process, first + cohorts(six_clients, name, counting))
    assert int(ours.metrics[-1]["cohort"]["excluded"]) == 1
    assert np.isfinite(float(ours.metrics[-1]["train"]["loss"]))
    for found, wanted in zip(everything(ours), everything(expected)):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def server_waits(process, name, six_clients, poisoned):
    """Checks that rounds without a counting client leave everything as it is."""
    first = cohorts(six_clients, name, ("a", "b"))
    nobody = cohorts(poisoned, name, (), ("e",), ("a", "f"))
    ours = rounds.run(process, first + nobody)
    before = rounds.run(process, first)
    assert np.abs(before.weights() - rounds.START).max() > 1e-3
    assert int(ours.states[-1].client_work) == len(first + nobody)
    if name == "fed_buff":
        # Three server steps later the same model is of every staleness.
        np.testing.assert_array_equal(ours.weights(), before.weights())
        for history, model in zip(
            ours.server()[1], ours.states[-1].global_model_weights.trainable
        ):
            np.testing.assert_array_equal(history[0], model)
            np.testing.assert_array_equal(history[3], model)
        return
    for found, wanted in zip(everything(ours), everything(before)):
        np.testing.assert_array_equal(found, wanted)


@names
def test_the_server_waits_in_rounds_without_anybody(six_clients, poisoned, name):
    server_waits(rounds.built(name, six_clients), name, six_clients, poisoned)


@pytest.mark.parametrize("name", algorithms.ALGORITHMS.names())
def test_the_server_waits_under_momentum(six_clients, poisoned, name):
    """Every registered algorithm; those with a step of their own have no momentum."""
    given = {
        "fed_buff": {"max_staleness": 3},
        "fed_rep": {"personal_tensors": 1},
        "reconstruction": {"personal_tensors": 1},
    }
    settings = algorithms.ALGORITHMS.get(name)(**given.get(name, {}))
    optimizer = tff.learning.optimizers.build_sgdm(1.0, rounds.MOMENTUM)
    context = algorithms.AlgorithmContext(
        rounds.sgd(),
        processes.OptimizerStep(optimizer),
        population=len(rounds.SIZES),
        task=six_clients,
    )
    process = settings.build(context).build(six_clients, max_cohort_size=4)
    server_waits(process, name, six_clients, poisoned)


def noised(name):
    """A mechanism of the toolkit with noise and without, and TFF's own."""
    if name == "tff":
        return tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(
            noise_multiplier=0.5, clients_per_round=4.0, clip=1.0
        )
    mechanism = privacy.gaussian_aggregator(
        noise_multiplier=0.5 if name == "noise" else 0.0,
        l2_norm_clip=1.0,
        expected_cohort_size=4.0,
        noise_seed=1,
    )

    class Planned(type(mechanism)):
        plan = "the plan of a run"

    if name == "no noise":
        object.__setattr__(mechanism, "__class__", Planned)
    return mechanism


@pytest.mark.parametrize("name", ["noise", "tff", "no noise"])
def test_under_privacy_the_server_moves_whoever_took_part(six_clients, name):
    """An empty Poisson cohort adds noise, and looks like every other round.

    With a plan whose noise is zero the server does not wait either.
    """
    optimizer = tff.learning.optimizers.build_sgdm(1.0, rounds.MOMENTUM)
    process = rounds.fed_opt(optimizer).build(
        six_clients, max_cohort_size=4, aggregator=noised(name)
    )
    cohort = six_clients.train.cohort(("a", "b"), seed=0, round_number=1)
    nobody = six_clients.train.cohort((), seed=0, round_number=2)
    ours = rounds.run(process, [cohort, nobody])
    first, second = ours.weights(0), ours.weights(1)
    by_momentum = rounds.MOMENTUM * (first - rounds.START)
    noise = second - first - by_momentum
    if name == "no noise":
        np.testing.assert_allclose(noise, 0.0, atol=1e-6)
    else:
        # Of standard deviation 0.5 / 4 in each of three coordinates.
        assert 1e-3 < np.abs(noise).max() < 1.0
    assert np.abs(second - first).max() > 1e-3


def test_the_server_waits_after_a_mean_that_is_not_a_number(six_clients):
    """TFF's mean over nobody is 0/0, unless it is asked for zero."""
    process = rounds.fed_opt(
        tff.learning.optimizers.build_sgdm(1.0, rounds.MOMENTUM)
    ).build(six_clients, max_cohort_size=4, aggregator=tff.aggregators.MeanFactory())
    ours = rounds.run(process, cohorts(six_clients, "fed_avg", ("a", "b"), (), ("e",)))
    assert np.isfinite(ours.weights(0)).all()
    np.testing.assert_array_equal(ours.weights(2), ours.weights(0))


@names
def test_updates_are_averaged_where_they_are_not_all_that_counts(six_clients, name):
    """Also by a mechanism, whose noise would not reach what clients report."""
    algorithm = rounds.ALGORITHMS[name]()
    aggregator = privacy.gaussian_aggregator(
        noise_multiplier=1.0, l2_norm_clip=1.0, expected_cohort_size=4.0, noise_seed=1
    )
    more_than_updates = tuple(
        each
        for each, settings in algorithms.ALGORITHMS.items()
        if settings.REPORTS or settings.UPDATES or settings.KEEPS_SENT
    )
    assert algorithm.needs_mean == name.startswith(more_than_updates)
    if algorithm.needs_mean:
        with pytest.raises(ValueError, match="report or keep more than their update"):
            algorithm.build(six_clients, max_cohort_size=4, aggregator=aggregator)


# Numbers of 4 bytes, (down, up): theta has 3, of which the body has 2.
NUMBERS = {
    "scaffold_1": (6, 6),  # x and c, y - x and the change of c_i
    "scaffold_2": (6, 6),
    "fed_nova": (3, 4),  # ||a_i||_1
    "fed_nova_momentum": (3, 4),
    "fed_nova_proximal": (3, 4),
    "fed_exp": (3, 4),  # the norm
    # s is theta's momentum, a learning rate and its factor.
    "mime_lite": (3 + 5, 6),
    # x, s and c in two exchanges; a gradient in the first, an update in the second.
    "mime": ((3 + 5 + 3) / 2, 3),
    "adaptive_prox": (4, 4),  # mu, the loss
    "fed_rep": (2, 2),
    "reconstruction": (2, 2),
    "ifca": (3 * 3, 4),  # all three models, the chosen one's update and its number
}


@names
def test_messages_are_as_large_as_what_the_paper_sends(six_clients, name):
    process = rounds.built(name, six_clients)
    found = process.download_bytes / 4, process.upload_bytes / 4
    assert found == NUMBERS.get(name, (3, 3))


def test_a_code_leaves_what_the_work_below_asks_for(six_clients):
    """FedBuff's clients have a staleness, and are sent one of all models."""
    algorithm = rounds.ALGORITHMS["fed_buff"]()
    work = clients.CompressedWork(algorithm.client_work, clients.TopK(1.0), True)
    process = dataclasses.replace(algorithm, client_work=work).build(
        six_clients, max_cohort_size=4
    )
    assert process.download_bytes == 12
    ours = rounds.run(process, rounds.cohorts_of(six_clients, stale=True))
    rounds.assert_close(
        ours.weights(), twins.TWINS["fed_buff"].models(rounds.paper_rounds())[-1]
    )


def test_a_code_below_is_what_is_sent(six_clients):
    """2 bits an entry and a float32 for each of two tensors, and FedExP's norm."""
    coded = clients.CompressedWork(
        clients.LocalTraining(rounds.sgd()), clients.Quantized(2)
    )
    for build, more in ((algorithms.build_fed_buff, 0), (algorithms.build_fed_exp, 4)):
        process = build(coded).build(six_clients, max_cohort_size=4)
        assert process.upload_bytes == 1 + 4 + 1 + 4 + more


def test_a_code_without_feedback_leaves_a_clients_state(six_clients):
    """SCAFFOLD's variates still sum up, although the model takes compressed updates."""
    algorithm = rounds.ALGORITHMS["scaffold_2"]()
    work = clients.CompressedWork(algorithm.client_work, clients.Quantized(2))
    process = dataclasses.replace(algorithm, client_work=work).build(
        six_clients, max_cohort_size=4
    )
    # 2 bits an entry and a float32 for each of two tensors; the report as it is.
    assert process.upload_bytes == 1 + 4 + 1 + 4 + 12

    def check(state, table):
        mean = table.rows(tuple(rounds.SIZES)).mean(axis=0)
        np.testing.assert_allclose(rounds.vector(state.finalizer[1]), mean, atol=1e-6)

    cohorts = rounds.cohorts_of(six_clients)
    ours = rounds.run(process, cohorts, after=check)
    plain = rounds.run(rounds.built("scaffold_2", six_clients), cohorts[:1])
    first = rounds.run(process, cohorts[:1])
    names = tuple(rounds.SIZES)
    np.testing.assert_allclose(first.table.rows(names), plain.table.rows(names))
    assert np.abs(first.weights() - plain.weights()).max() > 1e-3
    assert np.isfinite(ours.weights()).all()


def test_no_code_where_clients_keep_what_they_sent():
    work = rounds.ALGORITHMS["fed_dyn"]().client_work
    with pytest.raises(ValueError, match="FedDynClient cannot be compressed"):
        clients.CompressedWork(work, clients.Quantized(8))
