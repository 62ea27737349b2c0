"""Algorithms' classes: the parts that they go with, and the algorithms they build."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import rounds
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import algorithms, clients, runtime, settings
from tfl_research.algorithms import ALGORITHMS
from tfl_research.errors import SettingError
from tfl_research.models import ClientOptimizer, ServerOptimizer
from tfl_research.processes import OptimizerStep, ServerWork
from tfl_research.registry import registered

CLIENT_RATE, SERVER_RATE = 0.25, 0.75


@pytest.fixture(scope="module")
def context(six_clients):
    return algorithms.AlgorithmContext(
        rounds.sgd(CLIENT_RATE),
        OptimizerStep(tff.learning.optimizers.build_sgdm(SERVER_RATE)),
        population=6,
        task=six_clients,
        seed=3,
    )


def attribute(found, path):
    for name in path.split("."):
        found = getattr(found, name)
    return found


# Algorithm, its parameters, and attributes of what is built.
BUILT = [
    ("fed_avg", {}, {"client_work.proximal_strength": 0.0}),
    ("fed_prox", {}, {"client_work.proximal_strength": 0.1}),
    (
        "fed_prox",
        {"proximal_strength": 0.0},
        {"client_work.proximal_strength": 0.0},
    ),
    ("adaptive_prox", {}, {"server_work.initial": 0.0}),
    ("adaptive_prox", {"proximal_strength": 0.3}, {"server_work.initial": 0.3}),
    ("scaffold", {}, {"client_work.option": 2, "server_work.population": 6}),
    ("scaffold", {"scaffold_option": 1}, {"client_work.option": 1}),
    ("fed_dyn", {}, {"client_work.alpha": 0.1, "server_work.alpha": 0.1}),
    (
        "fed_dyn",
        {"dyn_alpha": 0.4},
        {
            "client_work.alpha": 0.4,
            "server_work.alpha": 0.4,
            "server_work.population": 6,
        },
    ),
    ("fed_dropout", {}, {"client_work.sub_models.share": 0.5}),
    ("fed_dropout", {"kept_units": 0.2}, {"client_work.sub_models.share": 0.2}),
    ("fed_nova", {}, {"client_work.proximal_strength": 0.0}),
    ("fed_nova", {"proximal_strength": 2.0}, {"client_work.proximal_strength": 2.0}),
    ("fed_exp", {}, {"server_work.epsilon": 1e-3, "server_work.averages": False}),
    (
        "fed_exp",
        {"exp_epsilon": 0.5, "exp_average": True},
        {"server_work.epsilon": 0.5, "server_work.averages": True},
    ),
    ("mime_lite", {}, {"server_work.corrects": False}),
    ("mime", {}, {"server_work.corrects": True, "exchanges": 2}),
    ("fed_buff", {}, {"server_work.max_staleness": 10}),
    ("fed_buff", {"max_staleness": 0}, {"server_work.max_staleness": 0}),
    ("ditto", {}, {"client_work.strength": 1.0}),
    ("ditto", {"personal_strength": 0.0}, {"client_work.strength": 0.0}),
    (
        "fed_rep",
        {},
        {"client_work.part.tensors": 2, "client_work.part.share": 0.5},
    ),
    (
        "fed_rep",
        {"personal_tensors": 1, "personal_share": 0.3},
        {"client_work.part.tensors": 1, "client_work.part.share": 0.3},
    ),
    (
        "reconstruction",
        {},
        {"client_work.part.tensors": 2, "client_work.part.share": 0.5},
    ),
    (
        "reconstruction",
        {"personal_tensors": 1, "personal_share": 0.3},
        {"client_work.part.tensors": 1, "client_work.part.share": 0.3},
    ),
    ("ifca", {}, {"client_work.clusters": 2}),
    ("ifca", {"clusters": 3}, {"client_work.clusters": 3}),
]


@pytest.mark.parametrize(("name", "given", "expected"), BUILT)
def test_every_parameter_is_heard(context, name, given, expected):
    chosen = ALGORITHMS.from_flat({"algorithm": name, **given})
    built = chosen.build(context)
    assert {path: attribute(built, path) for path in expected} == expected


def test_every_algorithm_is_built_with_every_parameter():
    assert {name for name, *_ in BUILT} == set(ALGORITHMS.names())
    given = {parameter for _, changes, _ in BUILT for parameter in changes}
    # How many devices train at once is for what draws the cohorts.
    assert given == set(ALGORITHMS.parameters()) - {"concurrency"}
    assert algorithms.FedBuff(7, 0).buffering == (7, 0)


def learning_rate(optimizer):
    (rate,) = optimizer.get_hparams(optimizer.initialize(())).values()
    return float(rate)


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_both_optimizers_are_those_of_the_context(context, name):
    settings = ALGORITHMS.get(name)()
    built = settings.build(context)
    over_training = ("fed_exp", "fed_buff")
    work = built.client_work.base if name in over_training else built.client_work
    assert learning_rate(work.steps.optimizer) == CLIENT_RATE
    server = built.server_work
    if settings.OWN_SERVER_STEP:
        assert not hasattr(server, "step")
    else:
        step = server if isinstance(server, OptimizerStep) else server.step
        assert learning_rate(step.optimizer) == SERVER_RATE


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_what_a_class_says_is_so(context, six_clients, name):
    split = {"personal_tensors": 1} if name in ("fed_rep", "reconstruction") else {}
    settings = ALGORITHMS.get(name)(**split)
    built = settings.build(context)
    own = built.weighting
    assert (None if own is None else own.kind) == settings.WEIGHTING
    assert built.exchanges == settings.EXCHANGES
    assert built.needs_mean == bool(
        settings.REPORTS or settings.UPDATES or settings.KEEPS_SENT
    )
    work = built.client_work
    assert work.keeps_what_it_sends == settings.KEEPS_SENT
    assert (settings.buffering is None) == ("staleness" not in work.client_members)
    process = built.build(six_clients, max_cohort_size=4)
    assert (process.client_states is not None) == settings.STATEFUL
    model = six_clients.functional_model()
    if settings.PERSONAL:
        assert work.build_personal(model, six_clients.build_objective()) is not None
    plain = 3 * 4
    if settings.ONLY_UPDATES_LEAVE:
        assert (process.upload_bytes, process.client_states) == (plain, None)
        assert (settings.REPORTS, settings.UPDATES) == (None, None)
    if settings.REPORTS is not None and settings.UPDATES is None:
        assert process.upload_bytes * settings.EXCHANGES > plain


def test_user_level_privacy_covers_what_leaves_only_under_these():
    covered = {name for name, one in ALGORITHMS.items() if one.ONLY_UPDATES_LEAVE}
    assert covered == {"fed_avg", "fed_prox"}


def refusal(check, *arguments, **more):
    """The line that a check refuses with, as a command line shows it."""
    with pytest.raises(SettingError) as refused:
        check(*arguments, **more)
    return refused.value.for_command_line


@pytest.mark.parametrize(
    ("settings", "client", "message"),
    [
        (
            algorithms.Scaffold(),
            ClientOptimizer("adam"),
            "--client_optimizer=adam: scaffold (--scaffold_option=2) needs "
            "--client_optimizer=sgd",
        ),
        (
            algorithms.Scaffold(),
            ClientOptimizer(momentum=0.5),
            "--client_momentum=0.5: scaffold (--scaffold_option=2) needs SGD without "
            "momentum; leave it out",
        ),
        (
            algorithms.Scaffold(),
            ClientOptimizer(gradient_clip=2.0),
            "--client_gradient_clip=2: needs --scaffold_option=1 under scaffold",
        ),
        (
            algorithms.FedNova(),
            ClientOptimizer("yogi"),
            "--client_optimizer=yogi: fed_nova needs --client_optimizer=sgd",
        ),
        (
            algorithms.FedNova(0.5),
            ClientOptimizer(momentum=0.5),
            "--client_momentum=0.5: fed_nova needs SGD without momentum; leave it out",
        ),
        (
            algorithms.FedNova(0.5),
            ClientOptimizer(gradient_clip=2.0),
            "--client_gradient_clip=2: fed_nova with --proximal_strength needs "
            "gradients that are not clipped; leave one of the two out",
        ),
        (
            algorithms.FedNova(3.0),
            ClientOptimizer(learning_rate=0.5),
            "--proximal_strength=3: times --client_learning_rate=0.5 must be at most 1 "
            "under fed_nova; lower one of them",
        ),
    ],
)
def test_local_steps_that_an_algorithm_does_not_take(settings, client, message):
    assert refusal(settings.check_clients, client) == message


@pytest.mark.parametrize(
    ("settings", "client"),
    [
        (algorithms.Scaffold(1), ClientOptimizer("adam", gradient_clip=1.0)),
        (algorithms.Scaffold(), ClientOptimizer("sgd", 0.3)),
        (algorithms.FedNova(), ClientOptimizer(momentum=0.5, gradient_clip=1.0)),
        (algorithms.FedNova(2.0), ClientOptimizer("sgd", 0.5)),
        (algorithms.FedAvg(), ClientOptimizer("adam", gradient_clip=1.0)),
    ],
)
def test_local_steps_that_an_algorithm_takes(settings, client):
    settings.check_clients(client)


@pytest.mark.parametrize("name", ["fed_dyn", "fed_exp", "ifca"])
@pytest.mark.parametrize(
    ("server", "given"),
    [
        (ServerOptimizer("adam", 1.0), "optimizer=adam"),
        (ServerOptimizer("sgd", 0.5), "learning_rate=0.5"),
        (ServerOptimizer("sgd", momentum=0.9), "momentum=0.9"),
        (
            ServerOptimizer("sgd", learning_rate_schedule="inverse_sqrt"),
            "learning_rate_schedule=inverse_sqrt",
        ),
        (
            ServerOptimizer("sgd", learning_rate_warmup_rounds=3),
            "learning_rate_warmup_rounds=3",
        ),
    ],
)
def test_algorithms_with_a_server_step_of_their_own(name, server, given):
    check = ALGORITHMS.get(name)().check_server
    expected = f"--server_{given}: {name} has a server step of its own; leave it out"
    assert refusal(check, server) == expected
    check(ServerOptimizer())
    algorithms.FedAvg().check_server(server)


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_weightings(name):
    settings = ALGORITHMS.get(name)()
    settings.check_weighting("uniform")
    if name in ("scaffold", "fed_dyn", "fed_buff"):
        assert refusal(settings.check_weighting, "examples") == (
            f"--client_weighting=examples: {name} weights all clients alike; give "
            "--client_weighting=uniform, or leave it out"
        )
    else:
        settings.check_weighting("examples")


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_aggregators(name):
    settings = ALGORITHMS.get(name)()
    settings.check_aggregator("mean")
    if name in (
        "fed_avg",
        "fed_prox",
        "fed_buff",
        "ditto",
        "fed_rep",
        "reconstruction",
    ):
        settings.check_aggregator("krum")
        return
    expected = {
        "fed_dropout": "clients of fed_dropout send an update of a part of the model, "
        "and the server takes the mean of these; give --aggregator=mean",
        "ifca": "clients of ifca send an update for each cluster, and the server "
        "takes the mean of these; give --aggregator=mean",
        "fed_dyn": "clients of fed_dyn keep what they sent, and the server has to add "
        "up the same values; give --aggregator=mean",
    }
    reports = {
        "adaptive_prox": "their loss",
        "scaffold": "what their control variate changed by",
        "fed_nova": "the number of their steps",
        "fed_exp": "the norm of their update",
        "mime_lite": "their gradient",
        "mime": "their gradient",
    }
    if name in reports:
        expected[name] = (
            f"acts on updates alone, and clients of {name} also send {reports[name]}, "
            "and the server takes the mean of these; give --aggregator=mean"
        )
        # Quantised updates are still averaged.
        settings.check_aggregator("compression")
    assert refusal(settings.check_aggregator, "krum") == (
        f"--aggregator=krum: {expected[name]}"
    )


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_compressions(name):
    settings = ALGORITHMS.get(name)()
    settings.check_compression("none", error_feedback=False)
    always = {
        "fed_dropout": "clients of fed_dropout send an update of a part of the model, "
        "and the server takes the mean of these; give "
        "--compression=none",
        "ifca": "clients of ifca send an update for each cluster, and the server "
        "takes the mean of these; give --compression=none",
        "fed_exp": "clients of fed_exp send the norm of their update as it was before "
        "compression; give --compression=none",
        "fed_dyn": "clients of fed_dyn keep what they sent, and the server has to add "
        "up the same values; leave it out or choose another --algorithm",
        "mime": (
            "the server drops the updates of the first of 2 exchanges of mime, and "
            "error feedback would be lost with them; leave it out or choose another "
            "--algorithm"
        ),
    }
    check = settings.check_compression
    if name in always:
        for feeds_back in (False, True):
            found = refusal(check, "top_k", error_feedback=feeds_back)
            assert found == f"--compression=top_k: {always[name]}"
        return
    check("top_k", error_feedback=False)
    if name in ("scaffold", "ditto", "fed_rep"):
        assert refusal(check, "top_k", error_feedback=True) == (
            f"--compression=top_k: clients of {name} keep a state of their own, so "
            "they cannot also keep the state of error feedback; give quantize, or "
            "random_k with --noerror_feedback, which need no state"
        )
    else:
        check("top_k", error_feedback=True)


def specs(*shapes):
    return [tf.TensorSpec(shape, tf.float32) for shape in shapes]


def test_models_that_an_algorithm_cannot_take_apart():
    looking = {name for name, one in ALGORITHMS.items() if one.looks_at_model()}
    assert looking == {"fed_dropout", "fed_rep", "reconstruction"}
    one_layer, two_layers = specs((4, 3), (3,)), specs((4, 3), (3,), (3, 2), (2,))
    assert refusal(algorithms.FedDropout().check_model, one_layer) == (
        "--algorithm=fed_dropout: the task's model has one layer, which has no units "
        "to leave out; choose another --algorithm"
    )
    recurrent = specs((4, 3), (3, 3), (3,), (3, 2), (2,))
    found = refusal(algorithms.FedDropout().check_model, recurrent)
    assert found.startswith("--algorithm=fed_dropout: sub-models need a sequence of")
    algorithms.FedDropout().check_model(two_layers)
    for split in (algorithms.FedRep, algorithms.Reconstruction):
        found = refusal(split().check_model, one_layer)
        assert found.startswith("--personal_tensors: 2 personal tensors leave nothing")
        split(personal_tensors=1).check_model(one_layer)
        split().check_model(two_layers)
    algorithms.FedAvg().check_model(one_layer)


@dataclasses.dataclass(frozen=True)
class SignSteps(algorithms.AlgorithmSettings):
    """A user's algorithm: the server steps along the signs of the mean update."""

    NAME = "sign_steps"
    SUMMARY = "steps of one length along signs"
    REPORTS = "the number of their examples"
    OWN_SERVER_STEP = True

    sign_step: float = settings.real(0.5, "Length of a step.", above=0)

    def build(self, context):
        return algorithms.Algorithm(
            CountingClient(context.steps), SignServer(self.sign_step), needs_mean=True
        )


@dataclasses.dataclass(frozen=True)
class CountingClient(clients.ClientWork):
    """Trains, and reports how many examples it has."""

    steps: clients.LocalSteps

    def build(self, model, objective):
        train = clients.LocalTraining(self.steps).build(model, objective)

        def client_function(server_weights, batches, round_number):
            result = train(server_weights, batches, round_number)
            return result._replace(report=result.num_examples)

        return client_function


@dataclasses.dataclass(frozen=True)
class SignServer(ServerWork):
    """Counts the examples of the average client, and remembers the count."""

    length: float
    weighs_reports = False

    def initial_state(self, weights):
        return tf.constant(0.0)

    def apply(self, weights, state, round_mean):
        moved = [
            w + self.length * tf.sign(u) for w, u in zip(weights, round_mean.update)
        ]
        return tuple(moved), state + round_mean.report


def test_a_users_algorithm_is_chosen_by_name_and_runs(context, six_clients):
    with registered(ALGORITHMS, "sign_steps", SignSteps):
        chosen = ALGORITHMS.from_flat({"algorithm": "sign_steps", "sign_step": 0.25})
        assert ALGORITHMS.origin("sign_steps") == __name__
        assert ALGORITHMS.parameters()["sign_step"] == ["sign_steps"]
    assert "sign_steps" not in ALGORITHMS
    expected = (
        "--aggregator=krum: acts on updates alone, and clients of sign_steps also send "
        "the number of their examples, and the server takes the mean of these; give "
        "--aggregator=mean"
    )
    assert refusal(chosen.check_aggregator, "krum") == expected
    process = chosen.build(context).build(six_clients, max_cohort_size=4)
    cohort = six_clients.train.cohort(("a", "c", "e"), seed=0, round_number=1)
    average = algorithms.FedAvg().build(context).build(six_clients, max_cohort_size=4)
    with (
        runtime.in_process(process, mode=rounds.MODE) as engine,
        runtime.in_process(average, mode=rounds.MODE) as reference,
    ):
        state, _ = engine.next(engine.initialize(), cohort)
        plain, _ = reference.next(reference.initialize(), cohort)

    def weights(found):
        return rounds.vector(found.global_model_weights.trainable)

    signs = np.sign(weights(plain) - rounds.START)
    rounds.assert_close(weights(state), rounds.START + 0.25 * signs)
    # "a" has 5 examples and "c" 7; "e" has none and does not count.
    assert float(state.finalizer) == 6.0
