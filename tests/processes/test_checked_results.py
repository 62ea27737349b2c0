"""What a user's server work, client work, rule and aggregator may return."""

from __future__ import annotations

import collections
import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tfl_research as tfl
from tfl_research import clients, processes, tasks
from tfl_research.aggregators import rules, stacking
from tfl_research.errors import UserError
from tfl_research.processes import checked_results
from tfl_research.registry import registered

WEIGHTS = (tf.ones([3, 2]), tf.ones([2]))
STATE = {"count": tf.constant(0), "moves": [tf.zeros([2])]}


class Given(processes.ServerWork):
    """Server work that returns what it is given."""

    def __init__(self, result):
        self.result = result

    def apply(self, weights, state, round_mean):
        return self.result

    def wait(self, weights, state):
        return self.result


def applied(result):
    return checked_results.applied(Given(result), WEIGHTS, STATE, None)


def test_what_fits_is_taken_as_it_is():
    weights, state = applied(([np.zeros([3, 2], np.float32), WEIGHTS[1]], STATE))
    assert weights[0].numpy().tolist() == np.zeros([3, 2]).tolist()
    assert weights[1] is WEIGHTS[1]
    assert state["count"] is STATE["count"]


def test_sums_with_names_that_tensorflow_does_not_take():
    names = ["loss", "size_mae/0", "far off"]
    sums_type = tff.StructWithPythonType(
        [(name, np.float32) for name in names], collections.OrderedDict
    )
    with pytest.raises(UserError, match="sums have the name 'far off', expected let"):
        checked_results.check_sums(sums_type)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            ([tf.ones([2]), WEIGHTS[1]], STATE),
            "Given.apply: the weights, tensor 0 must be float32 of shape [3, 2], got "
            "float32 of shape [2]",
        ),
        (
            ([WEIGHTS[0], tf.cast(WEIGHTS[1], tf.float64)], STATE),
            "the weights, tensor 1 must be float32 of shape [2], got float64 of shape",
        ),
        (([WEIGHTS[0]], STATE), "must be a list of 2 tensors, got a list of 1"),
        ((list(WEIGHTS), {**STATE, "count": 0.0}), "the state, tensor 0 must be int32"),
        ((list(WEIGHTS), {"count": STATE["count"]}), "the same structure as before"),
        (
            (list(WEIGHTS), {**STATE, "moves": [tf.zeros([])]}),
            "the state, tensor 1 must be float32 of shape [2], got float32 of shape []",
        ),
        ([*WEIGHTS, STATE], "Given.apply returned a list of 3; expected the new"),
        (None, "Given.apply returned NoneType; expected the new weights"),
    ],
)
def test_server_work_of_another_form(result, message):
    with pytest.raises(UserError, match=re.escape(message)):
        applied(result)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"my state": tf.ones([2])}, "Began.initial_state has the name 'my state'"),
        ([{"a": None}], "Began.initial_state has None, expected tensors; give ()"),
    ],
)
def test_a_first_state_that_tensorflow_does_not_take(state, message):
    class Began(Given):
        def initial_state(self, weights):
            return self.result

    assert checked_results.initial(Began(STATE), WEIGHTS) is STATE
    with pytest.raises(UserError, match=re.escape(message)):
        checked_results.initial(Began(state), WEIGHTS)


def test_shared_values_that_tensorflow_does_not_take():
    class Shares(Given):
        def shared(self, weights, state):
            return self.result

    assert checked_results.shared(Shares(None), WEIGHTS, STATE) is None
    assert checked_results.shared(Shares(STATE), WEIGHTS, STATE) is STATE
    for values, message in (
        ({"my value": tf.ones([2])}, "Shares.shared has the name 'my value'"),
        ([None], "Shares.shared has None, expected tensors"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            checked_results.shared(Shares(values), WEIGHTS, STATE)


def test_the_state_of_a_server_that_waits():
    with pytest.raises(UserError, match="the state must have the same structure"):
        checked_results.waiting(Given([tf.zeros([2])]), WEIGHTS, STATE)


def test_a_shape_that_is_known_in_the_round_alone():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def of(bias):
        return applied(([WEIGHTS[0], bias], STATE))[0][1]

    assert of(tf.zeros([2])).shape == [2]
    with pytest.raises(tf.errors.InvalidArgumentError):
        of(tf.zeros([1]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"update": [tf.ones([1, 2]), WEIGHTS[1]]}, "the update, tensor 0 must be"),
        ({"num_examples": tf.constant(3)}, "num_examples must be float32 of shape []"),
        ({"client_state": tf.zeros([1])}, "client_state must be float32 of shape [4]"),
        ({"client_state": None}, "shape [4], got NoneType"),
        ({"report": {"my loss": WEIGHTS[1]}}, "the report has the name 'my loss'"),
        ({"report": (WEIGHTS[1], {3: WEIGHTS[1]})}, "the report has the name 3, exp"),
        ({"report": [None]}, "the report has None, expected tensors"),
    ],
)
def test_client_work_of_another_form(changed, message):
    fits = clients.ClientResult(
        list(WEIGHTS),
        tf.constant(3.0),
        collections.OrderedDict(),
        client_state=tf.ones([4]),
    )
    state = tf.zeros([4])
    assert checked_results.trained(fits, WEIGHTS, state) == fits
    with pytest.raises(UserError, match=re.escape(message)):
        checked_results.trained(fits._replace(**changed), WEIGHTS, state)
    with pytest.raises(UserError, match="returned a tuple of 3; expected a clients"):
        checked_results.trained((1, 2, 3), WEIGHTS, None)
    with pytest.raises(
        UserError, match=("so that clients keep no state; return the fir")
    ):
        checked_results.trained(fits, WEIGHTS, None)


SUMS = {"loss": tf.TensorSpec([], tf.float32), "hits": tf.TensorSpec([2], tf.float32)}
FITTING_SUMS = {"hits": tf.ones([2]), "loss": tf.constant(3.0)}


@pytest.mark.parametrize(
    ("sums", "message"),
    [
        ({}, "the sums lack 'loss', 'hits'; expected the objective's sums 'loss'"),
        (None, "the sums must be a dict with the objective's sums 'loss', 'hits'"),
        ([1.0, 2.0], "sums 'loss', 'hits', got a list of 2"),
        (
            {**FITTING_SUMS, "norm": tf.constant(1.0)},
            "the sums have 'norm', which the objective's sums 'loss', 'hits' do not",
        ),
        (
            {**FITTING_SUMS, "loss": tf.ones([1])},
            "the sum 'loss' must be float32 of shape [], got float32 of shape [1]",
        ),
        ({**FITTING_SUMS, "loss": tf.constant(3)}, "of shape [], got int32 of shape"),
    ],
)
def test_sums_that_are_not_the_objectives(sums, message):
    result = clients.ClientResult(list(WEIGHTS), tf.constant(3.0), FITTING_SUMS)
    found = checked_results.trained(result, WEIGHTS, None, SUMS).sums
    assert list(found) == ["loss", "hits"]
    assert found["hits"] is FITTING_SUMS["hits"]
    with pytest.raises(UserError, match=re.escape(message)):
        checked_results.trained(result._replace(sums=sums), WEIGHTS, None, SUMS)


@dataclasses.dataclass(frozen=True)
class Counts(clients.WrappedWork):
    """The base's client work, with a further sum."""

    base: clients.ClientWork

    def build(self, model, objective):
        base = self.base.build(model, objective)

        def client_function(*arguments):
            result = base(*arguments)
            return result._replace(sums={**result.sums, "mine": tf.constant(1.0)})

        return client_function


def test_a_further_sum_of_ones_own_client_work(make_linear_task, two_clients):
    task = make_linear_task(two_clients)
    base = clients.local_training(optimizer=tff.learning.optimizers.build_sgdm(0.1))
    processes.build_fed_avg(task, client_work=base)
    with pytest.raises(UserError, match="the sums have 'mine', which the objective's"):
        processes.build_fed_avg(task, client_work=Counts(base))


@dataclasses.dataclass(frozen=True)
class Returned(tfl.aggregators.RuleSettings):
    NAME, SUMMARY = "returned", "what a test returns"
    SOURCE = "no robust rule"
    form: object = None

    def apply(self, rows, *, center=None):
        return self.form(rows.values)


@pytest.mark.parametrize(
    ("form", "got"),
    [
        (lambda rows: rows, "float32 of shape [3, 2]"),
        (lambda rows: rows[:1], "float32 of shape [1, 2]"),
        (lambda rows: rows[0, 0], "float32 of shape []"),
        (lambda rows: tf.cast(rows[0], tf.float64), "float64 of shape [2]"),
        (lambda rows: None, "NoneType"),
    ],
)
def test_a_rule_that_returns_no_row(form, got):
    rows = rules.screen([[0.0, 1.0], [1.0, 1.0], [4.0, 7.0]])
    first = stacking.apply_rule(Returned(form=lambda rows: rows[0]), rows)
    assert first.numpy().tolist() == [0.0, 1.0]
    expected = f"must return one row, float32 of shape [2], got {got}"
    with pytest.raises(UserError, match=re.escape(expected)):
        stacking.apply_rule(Returned(form=form), rows)


def build_model():
    return tf.keras.Sequential([tf.keras.layers.Dense(2, input_shape=(3,))])


def experiment(**parts):
    data = {"x": np.eye(3, dtype=np.float32), "y": np.array([0, 1, 0])}
    task = tasks.from_arrays({"a": data, "b": data}, model=build_model, test=0)
    return tfl.Experiment(
        task,
        cohorts=tfl.Cohorts("full"),
        training=tfl.Training(rounds=1, report=False, export=False),
        **parts,
    )


@dataclasses.dataclass(frozen=True)
class Rows(tfl.algorithms.AlgorithmSettings):
    """Server work that returns a row of each weight."""

    NAME, SUMMARY, ONLY_UPDATES_LEAVE = "rows", "a row of each weight", True

    def build(self, context):
        class FirstRows(processes.ServerWork):
            def apply(self, weights, state, round_mean):
                return [w[0] for w in weights], state

        return tfl.algorithms.Algorithm(
            clients.LocalTraining(context.steps), FirstRows()
        )


def test_a_run_does_not_stretch_weights(tmp_path):
    expected = r"FirstRows\.apply: the weights, tensor 0"
    rows = registered(tfl.algorithms.ALGORITHMS, "rows", Rows)
    with rows, pytest.raises(UserError, match=expected):
        experiment(algorithm=Rows()).run(tmp_path / "run")


class FirstWeight(tff.aggregators.UnweightedAggregationFactory):
    def create(self, value_type):
        sums = tff.aggregators.SumFactory().create(value_type)

        @tff.federated_computation(
            sums.initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
        )
        def next_round(state, value):
            done = sums.next(state, value)
            return tff.templates.MeasuredProcessOutput(
                done.state, done.result[0], done.measurements
            )

        return tff.templates.AggregationProcess(sums.initialize, next_round)


def test_an_aggregator_whose_result_is_no_update(tmp_path):
    with pytest.raises(UserError, match=r"update, <float32\[3.*got float32\[3,2"):
        experiment(aggregator=FirstWeight()).run(tmp_path / "run")
