"""ε of declared processes: noise anew at every execution, noise by a seed, and none."""

from __future__ import annotations

import collections
import io
import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tfl_research as tfl
from tfl_research import privacy
from tfl_research.errors import SettingError, UserError
from tfl_research.experiment.own_process.prepared import prepare
from tfl_research.privacy import GaussianEvent, Ledger
from tfl_research.runtime import InProcessEngine
from tfl_research.storage.computation_record import ComputationRecord

CLIENTS = {f"c{number}": np.full(3, number, np.float32) for number in range(8)}
DELTA = 1e-3
# Of Poisson cohorts of 4 of the 8 clients.
EVENT = GaussianEvent("poisson", 1.0, 0.5, 8, 4.0, "add_or_remove_one")
DECLARED = tfl.ProcessPrivacy(noise_multiplier=1.0, delta=DELTA, covers=["result"])


@pytest.fixture(scope="module")
def drawing():
    """TFF's own mechanism, which draws its noise anew at every execution."""
    factory = tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(1.0, 4, 0.5)
    return factory.create(tff.TensorType(np.float32, (3,)))


STATE = tff.StructWithPythonType(
    [("seed", tff.TensorType(np.int64, (2,))), ("count", np.int64)],
    collections.OrderedDict,
)


@tff.tensorflow.computation
def first_state():
    # Drawn when the run begins, so that no later start can make it again.
    now = tf.cast(1e6 * tf.timestamp(), tf.int64)
    return collections.OrderedDict(seed=tf.stack([now, now + 1]), count=np.int64(0))


@tff.tensorflow.computation(tff.TensorType(np.float32, (3,)))
def clipped(value):
    return tf.clip_by_norm(value, 0.5)


@tff.tensorflow.computation(STATE, tff.TensorType(np.float32, (3,)))
def noised(state, total):
    noise = tf.random.stateless_normal([3], state["seed"] + state["count"])
    metrics = collections.OrderedDict(result=total + 0.5 * noise, exact=total[0])
    state["count"] += 1
    return state, metrics


@tff.federated_computation
def initialize():
    return tff.federated_eval(first_state, tff.SERVER)


@tff.federated_computation(
    tff.FederatedType(STATE, tff.SERVER),
    tff.FederatedType(tff.TensorType(np.float32, (3,)), tff.CLIENTS),
)
def next_round(state, values):
    total = tff.federated_sum(tff.federated_map(clipped, values))
    output = tff.federated_map(noised, (state, total))
    return output[0], output[1]


SEEDED = tff.templates.IterativeProcess(initialize, next_round)


def experiment(process, *, rounds=5, callbacks=(), clients=CLIENTS, **options):
    options.setdefault("privacy", DECLARED)
    options.setdefault("cohorts", tfl.Cohorts(cohort_size=4))
    # Any number: only that two runs have the same secret cohorts.
    training = tfl.Training(
        rounds=rounds, checkpoint_every=100, tensorboard=False, run_seed="7"
    )
    options.setdefault("training", training)
    return tfl.ProcessExperiment(process, clients, callbacks=callbacks, **options)


def run(process, folder, stream=None, recharge=False, **options):
    return experiment(process, **options).run(
        folder, stream=stream or io.StringIO(), recharge=recharge
    )


def test_declared_noise_of_a_process_without_random_numbers_is_doubted(tmp_path):
    """It may be in the clients' values, but is probably nowhere."""

    @tff.tensorflow.computation(STATE, tff.TensorType(np.float32, (3,)))
    def exact(state, total):
        return state, collections.OrderedDict(result=total, exact=total[0])

    @tff.federated_computation(next_round.type_signature.parameter)
    def next_exact(state, values):
        total = tff.federated_sum(tff.federated_map(clipped, values))
        output = tff.federated_map(exact, (state, total))
        return output[0], output[1]

    for process, doubted in (
        (tff.templates.IterativeProcess(initialize, next_exact), True),
        (SEEDED, False),
    ):
        stream, folder = io.StringIO(), tmp_path / str(doubted)
        run(process, folder, stream, rounds=1)
        for text in (stream.getvalue(), (folder / "privacy.txt").read_text()):
            said = " ".join(text.split())
            assert ("no operation of the process draws random" in said) == doubted
            assert ("is a function of its state" in said) != doubted


class Kill(tfl.Callback):
    """Ends the run after a round, without a checkpoint, as a kill does."""

    def __init__(self, after):
        self.after = after

    def on_round(self, report):
        if report.round_number == self.after:
            raise KeyboardInterrupt


def kill(process, folder, after, **options):
    with pytest.raises(SystemExit):
        run(process, folder, callbacks=[Kill(after)], **options)


def lines(folder):
    """The rounds and restarts in a ledger, in its order."""
    read = [json.loads(line) for line in (folder / "ledger.jsonl").open()]
    return [
        each.get("round", f"restart after {each.get('after')}") for each in read[1:]
    ]


def epsilon(charged):
    return privacy.composed_epsilon([(EVENT, charged)], DELTA, "pld")


def test_other_noise_is_charged_at_every_execution(drawing, tmp_path):
    kill(drawing, tmp_path, 3)
    before = (tmp_path / "measurements.jsonl").read_text()
    stream = io.StringIO()
    result = run(drawing, tmp_path, stream)
    assert lines(tmp_path) == [1, 2, 3, "restart after 0", 1, 2, 3, 4, 5]
    assert result.epsilon == pytest.approx(epsilon(8), rel=1e-6)
    text = stream.getvalue()
    assert (
        "the rounds 1 to 3, after the last checkpoint, may have been executed" in text
    )
    assert "every execution is charged" in text
    # The repeated rounds have new noise, and new cohorts.
    after = (tmp_path / "measurements.jsonl").read_text()
    assert before.splitlines()[1] != after.splitlines()[1]
    statement = (tmp_path / "privacy.txt").read_text()
    assert "5 rounds and 3 further" in statement
    assert "Neither the noise nor the clip was measured or" in " ".join(
        statement.split()
    )
    # More rounds from the last checkpoint cost what they cost.
    longer = run(drawing, tmp_path, rounds=6)
    assert lines(tmp_path)[-2:] == [5, 6]
    assert longer.epsilon == pytest.approx(epsilon(9), rel=1e-6)


def test_a_round_that_was_begun_is_charged(drawing, tmp_path, monkeypatch):
    """The charge is durable before the execution, whatever becomes of this."""

    def killed(self, state, cohort):
        assert lines(tmp_path) == [1]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(InProcessEngine, "next", killed)
        with pytest.raises(SystemExit):
            run(drawing, tmp_path, rounds=2)
    # And a kill between the ledger's line and computation.json.
    with monkeypatch.context() as patch:
        patch.setattr(ComputationRecord, "begin_attempt", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(drawing, tmp_path, rounds=2)
    assert lines(tmp_path) == [1, "restart after 0"]
    result = run(drawing, tmp_path, rounds=2)
    assert lines(tmp_path) == [1, "restart after 0", 1, 2]
    assert result.epsilon == pytest.approx(epsilon(3), rel=1e-6)


def _interrupted(*_, **__):
    raise KeyboardInterrupt


def test_noise_by_a_seed_is_charged_once(tmp_path):
    kill(SEEDED, tmp_path, 3)
    first = (tmp_path / "measurements.jsonl").read_text().splitlines()
    stream = io.StringIO()
    result = run(SEEDED, tmp_path, stream)
    assert lines(tmp_path) == [1, 2, 3, 4, 5]
    assert result.epsilon == pytest.approx(epsilon(5), rel=1e-6)
    assert result.delta == DELTA
    assert "is charged once" in stream.getvalue()
    # The repeated rounds are the same to the last bit.
    repeated = (tmp_path / "measurements.jsonl").read_text().splitlines()
    assert repeated[: len(first)] == first


def test_noise_by_a_seed_is_on_nothing_else(tmp_path):
    kill(SEEDED, tmp_path, 2)
    with pytest.raises(UserError, match="the data differs; using its noise"):
        run(SEEDED, tmp_path, clients={**CLIENTS, "c7": np.zeros(3, np.float32)})
    with pytest.raises(SettingError, match="recharge: goes with declared noise that"):
        run(SEEDED, tmp_path, recharge=True)
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="has lost every checkpoint"):
        run(SEEDED, tmp_path)
    with pytest.raises(SettingError, match="the values of a function cannot all be"):
        run(
            SEEDED,
            tmp_path / "function",
            clients=CLIENTS.__getitem__,
            client_ids=list(CLIENTS),
        )


def test_what_the_event_does_not_cover_is_withheld(tmp_path):
    reports = []

    class Seeing(tfl.Callback):
        def on_round(self, report):
            reports.append(report)

    result = run(SEEDED, tmp_path / "run", rounds=1, callbacks=[Seeing()])
    assert list(result.measurements[1]) == ["result"]
    assert list(reports[0].measurements) == ["result"]
    for name in ("exact", "cohort_size", "round_seconds"):
        assert name not in result.metrics
        assert name not in reports[0].metrics
    columns = json.loads((tmp_path / "run" / "columns.json").read_text())["columns"]
    assert columns["result"]["class"] == "private"
    statement = " ".join((tmp_path / "run" / "privacy.txt").read_text().split())
    assert "Private, covered by ε: result." in statement
    given = run(
        SEEDED,
        tmp_path / "given",
        rounds=1,
        release=tfl.Release(release_exact=["exact"]),
    )
    assert given.metrics["exact"].notna().all()
    statement = " ".join((tmp_path / "given" / "privacy.txt").read_text().split())
    assert "Exact, not covered by ε: exact." in statement
    stream = io.StringIO()
    run(SEEDED, tmp_path / "public", stream, rounds=1, public_data=True)
    assert "not covered: cohort" in stream.getvalue()


def test_the_statement_says_what_selected_the_best_round(tmp_path):
    result = run(
        SEEDED,
        tmp_path / "run",
        public_data=True,
        evaluate=lambda state: {"loss": float(state["count"])},
        training=tfl.Training(rounds=1, run_seed="7", selection_metric="loss"),
    )
    summary = json.loads((result.path / "summary.json").read_text())
    assert summary["best"]["selected_by"] == "eval_loss"
    statement = " ".join((result.path / "privacy.txt").read_text().split())
    assert "The best model is chosen by eval_loss, which is exact" in statement


def test_the_statement_names_what_the_folder_has_and_no_more(tmp_path):
    class Writes(tfl.Callback):
        def on_round(self, report):
            (tmp_path / "run" / "clients.csv").write_text("client\nc1\n")

    run(
        SEEDED,
        tmp_path / "run",
        rounds=1,
        public_data=True,
        evaluate=lambda state: {"count": float(state["count"])},
        callbacks=[Writes()],
    )
    statement = " ".join((tmp_path / "run" / "privacy.txt").read_text().split())
    given = statement.split("Exact, not covered by ε: ")[1].split(". - ")[0].split(", ")
    # metrics.csv also has a column eval_loss, which is empty.
    assert {"exact", "eval_count", "clients.csv"} <= set(given)
    assert "eval_loss" not in given
    assert "The metrics eval_... are computed by the user's function." in statement


def test_without_a_declaration_no_epsilon_is_known(drawing, tmp_path):
    stream = io.StringIO()
    result = run(drawing, tmp_path, stream, privacy=None, rounds=1)
    assert result.epsilon == np.inf
    assert result.delta is None
    assert "this process draws noise (RandomStandardNormal); ε is not accounted" in (
        stream.getvalue()
    )
    assert not (tmp_path / "ledger.jsonl").exists()


def test_a_budget_stops_the_run(drawing, tmp_path):
    budget = (epsilon(2) + epsilon(3)) / 2
    limited = tfl.ProcessPrivacy(
        noise_multiplier=1.0, delta=DELTA, budget_epsilon=budget
    )
    result = run(drawing, tmp_path, privacy=limited)
    assert (result.stop_reason, len(result.metrics)) == ("budget", 2)


def test_correlated_noise_cannot_be_drawn_anew(drawing, tmp_path):
    tree = privacy.mechanisms.Tree(restart_every=4)
    options = {
        "privacy": tfl.ProcessPrivacy(2.0, tree),
        "cohorts": tfl.Cohorts("min_separation", cohort_size=2),
    }
    kill(drawing, tmp_path, 1, **options)
    with pytest.raises(UserError, match="round 1 was begun but is in no checkpoint"):
        run(drawing, tmp_path, **options)
    assert lines(tmp_path) == [1]


def test_a_changed_process_goes_on_with_recharge(drawing, tmp_path):
    kill(drawing, tmp_path, 2)
    factory = tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(1.0, 4, 0.25)
    other = factory.create(tff.TensorType(np.float32, (3,)))
    with pytest.raises(
        UserError, match=r"was begun with another computation.*recharge"
    ):
        run(other, tmp_path)
    run(other, tmp_path, recharge=True, rounds=3)
    assert lines(tmp_path) == [1, 2, "restart after 0", 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"cohorts": tfl.Cohorts("cyclic_poisson", cohort_size=2, min_separation=2)},
         "mechanism=gaussian: its account does not cover sampler=cyclic_poisson"),
        ({"privacy": tfl.ProcessPrivacy(event=EVENT), "cohorts": tfl.Cohorts("fixed")},
         "event: it assumes poisson sampling"),
        ({"privacy": tfl.ProcessPrivacy(1.0, covers=["results"])},
         "covers=results: no metric of the process has a name that begins so; it has "
         "result"),
        ({"privacy": tfl.ProcessPrivacy(1.0, repeatable=True)},
         "repeatable=True: the process has the operations RandomStandardNormal"),
        ({"release": tfl.Release(release_exact=["accuracy"])},
         "release_exact=accuracy: there is no such exact output"),
        ({"release": tfl.Release(selection_epsilon=1)},
         "selection_epsilon=1: goes with"),
        ({"release": tfl.Release(release_exact=["all"]), "public_data": True},
         "public_data, which shows every output"),
    ],
)  # fmt: skip
def test_refusals(drawing, options, match):
    with pytest.raises(SettingError, match=match) as error:
        experiment(drawing, **options).check()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "noise_multiplier is missing; give event"),
        ({"event": EVENT, "noise_multiplier": 1.0}, "is given beside an event"),
        ({"event": "gaussian"}, "event must be a tfl.privacy.Event, got str"),
        ({"noise_multiplier": -1.0}, "must be at least 0"),
        ({"noise_multiplier": 1.0, "delta": 1.0}, "below 1"),
        ({"noise_multiplier": 1.0, "covers": "result"}, "covers must be a list"),
    ],
)
def test_declarations_that_are_none(options, match):
    with pytest.raises(SettingError, match=match):
        tfl.ProcessPrivacy(**options)


@pytest.mark.parametrize(
    "draw", [tf.random.stateless_normal, tf.random.stateless_uniform]
)
def test_two_kinds_of_noise_need_a_word(draw):
    """Noise by a seed on sums that are drawn anew would be used on two sums."""

    @tff.tensorflow.computation(STATE, tff.TensorType(np.float32, (3,)))
    def twice(state, total):
        by_seed = draw([3], state["seed"])
        # As of initial weights, whose seeds are constants: no noise.
        weights = 0.0 * tf.random.stateless_uniform([3], [1, 2])
        return state, total + by_seed + weights + tf.random.normal([3])

    @tff.federated_computation(*next_round.type_signature.parameter)
    def both(state, values):
        output = tff.federated_map(twice, (state, tff.federated_sum(values)))
        return output[0], output[1]

    process = tff.templates.IterativeProcess(initialize, both)
    declared = tfl.ProcessPrivacy(1.0)
    with pytest.raises(SettingError, match="repeatable is missing: the process draws"):
        experiment(process, privacy=declared).check()
    declared = tfl.ProcessPrivacy(1.0, repeatable=False)
    experiment(process, privacy=declared).check()


def test_ledgers_of_such_runs_can_be_read(drawing, tmp_path):
    run(drawing, tmp_path, rounds=2)
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        assert list(ledger.events) == [EVENT, EVENT]


def test_a_process_of_the_toolkit_has_its_own_plan():
    arrays = {
        name: {"x": np.ones((2, 1), np.float32), "y": np.array([0, 1], np.int32)}
        for name in CLIENTS
    }
    task = tfl.tasks.from_arrays(
        arrays,
        model=lambda: tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(1,))]),
    )
    cohorts = tfl.sampling.Poisson(tuple(CLIENTS), 4, 1)
    plan = privacy.UserLevelPlan.create(
        "gaussian",
        l2_norm_clip=0.5,
        amplification=cohorts.amplification,
        rounds=2,
        noise_multiplier=1.0,
        delta=DELTA,
    )
    mechanism = plan.build(privacy.MechanismContext(noise_seed=2**70 + 3))
    process = tfl.processes.build_fed_avg(
        task,
        client_optimizer=tff.learning.optimizers.build_sgdm(0.1),
        client_weighting=tfl.processes.uniform(),
        aggregator=mechanism.aggregator,
    )
    options = {"clients": task, "privacy": None}
    ready = prepare(experiment(process, rounds=2, **options))
    assert ready.plan is plan
    assert ready.is_repeatable
    # The task's local steps are what the process takes.
    steps = ready.clients.cohort(["c0"], seed=1, round_number=1)[0]
    assert steps["x"].shape == (1, 20, 1)
    assert steps["mask"].sum() == 2
    with pytest.raises(SettingError, match="rounds=5: the process' plan is for 2"):
        experiment(process, **options).check()
    with pytest.raises(SettingError, match="privacy: the process was built from a"):
        experiment(process, rounds=2, clients=task).check()
    with pytest.raises(SettingError, match="cohorts: the process' plan is for"):
        experiment(
            process, rounds=2, cohorts=tfl.Cohorts(cohort_size=2), **options
        ).check()
