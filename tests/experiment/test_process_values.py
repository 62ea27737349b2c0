"""What is refused of a process, its clients and its settings, in one line each."""

from __future__ import annotations

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tfl_research as tfl
from tfl_research.errors import SettingError, UserError
from tfl_research.experiment.own_process import client_digest
from tfl_research.experiment.own_process.client_digest import digest_of
from tfl_research.experiment.own_process.client_values import clients_of
from tfl_research.experiment.own_process.evaluation import FunctionEvaluation
from tfl_research.experiment.own_process.prepared import prepare
from tfl_research.experiment.own_process.typed_values import as_value

PAIR = tff.StructWithPythonType(
    [("x", tff.TensorType(np.float32, [None, 2])), ("y", np.int32)],
    collections.OrderedDict,
)


def sum_of(member):
    @tff.federated_computation(tff.FederatedType(member, tff.CLIENTS))
    def total(values):
        return tff.federated_sum(values)

    return total


TOTAL = sum_of(np.int32)


def refused(match, process=TOTAL, clients=None, **options):
    with pytest.raises(SettingError, match=match) as error:
        tfl.ProcessExperiment(process, clients, **options).check()
    assert "\n" not in str(error.value)


def test_what_is_no_process():
    refused("must be a TFF process, got str; give a", "a process")
    refused(r"MeanFactory \(a factory makes a process", tff.aggregators.MeanFactory())

    @tff.federated_computation(
        tff.FederatedType(np.int32, tff.SERVER),
        tff.FederatedType(np.int32, tff.CLIENTS),
    )
    def two(model, values):
        return model, tff.federated_sum(values)

    refused("takes model of type int32@SERVER, which is not one value for each", two)

    @tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
    def same(values):
        return values

    refused("returns .*@CLIENTS, one value for each client; aggregate it", same)


@pytest.mark.parametrize(
    ("clients", "options", "match"),
    [
        (None, {}, "clients must be a mapping from ids to values of type int32"),
        ({}, {}, "clients: the list is empty"),
        (lambda name: 1, {}, "client_ids is missing"),
        (lambda name: 1, {"client_ids": {"a", "b"}}, "client_ids must be a list, sin"),
        (lambda name: 1, {"client_ids": "ab"}, "client_ids must be a list, got 'ab'"),
        (lambda name: 1, {"client_ids": ["a", "a"]}, "two clients have the id 'a'"),
        ({1: 1, "1": 2}, {}, "two clients have the id '1'"),
        ({"a": 1}, {"client_ids": ["a"]}, "goes with a function"),
        ({"a": 1.5}, {}, r"clients\['a'\]: a float is float64; convert it to int32"),
        ({"a": np.int64(1)}, {}, r"clients\['a'\]: a int64 is int64; convert it"),
        ({"a": [1, 2]}, {}, r"clients\['a'\]: a list has shape \[2\]; the process"),
        ({"a": "text"}, {}, r"clients\['a'\]: a str"),
        (lambda name: {}["x"], {"client_ids": ["a"]}, r"reading it failed \(KeyError"),
        (
            {"a": 1},
            {"cohorts": tfl.Cohorts(cohort_size=2)},
            "cohort_size=2: there are 1",
        ),
        ({"a": 1}, {"test": {}}, "model is missing: test examples need a model"),
        ({"a": 1}, {"model": lambda: 1}, "the process has no global_model_weights"),
        (
            {"a": 1},
            {"training": tfl.Training(selection_metric="accuracy")},
            "selection_metric=accuracy: nothing is evaluated",
        ),
        (
            {"a": 1},
            {"training": tfl.Training(max_evaluation_examples=3)},
            "max_evaluation_examples=3: goes with tasks only",
        ),
        ({"a": 1}, {"release": tfl.Release(withhold_exact=True)}, "withhold_exact"),
    ],
)
def test_clients_and_settings(clients, options, match):
    refused(match, clients=clients, **options)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("cohorts", 3, "cohorts must be Cohorts, got int; give tfl.Cohorts"),
        ("privacy", "gaussian", "must be ProcessPrivacy"),
        ("evaluate", 3, "evaluate must be a function of the model"),
    ],
)
def test_parts_of_another_kind(name, value, match):
    with pytest.raises(SettingError, match=match):
        tfl.ProcessExperiment(TOTAL, {"a": 1}, **{name: value})


def value(given, value_type=PAIR):
    return as_value("clients['a']", given, value_type)


@pytest.mark.parametrize(
    ("privacy", "match"),
    [
        (tfl.UserLevelPrivacy(noise_multiplier=1.0), "adds noise to the updates of a"),
        (
            tfl.RecordLevelPrivacy(record_target_epsilon=4),
            "is about the local steps of a task",
        ),
    ],
)
def test_the_privacy_of_a_task_is_refused_with_the_way_out(privacy, match):
    with pytest.raises(SettingError, match=f"privacy: .*{match}.*tfl.ProcessPrivacy"):
        tfl.ProcessExperiment(TOTAL, {"a": 1}, privacy=privacy)


def test_members_are_taken_by_name_and_not_by_place():
    given = value({"y": 3, "x": [[1, 2]]})
    assert list(given) == ["x", "y"]
    assert (given["x"].tolist(), int(given["y"])) == ([[1.0, 2.0]], 3)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"x": [[1.0, 2.0]]}, "has no member y"),
        ({"x": [[1.0, 2.0]], "y": 1, "z": 2}, "has the further member 'z'"),
        (
            {"x": [[1.0]], "y": 1},
            r"has shape \[1, 1\]; the process takes float32\[\?,2\]",
        ),
        ({"x": np.zeros((1, 2)), "y": 1}, "is float64; convert it to float32"),
        ([[[1.0, 2.0]], 1, 2], "has 3 members"),
    ],
)
def test_a_structure_of_another_form(given, match):
    with pytest.raises(SettingError, match=match):
        value(given)


SEQUENCE = tff.SequenceType(PAIR)


def test_datasets_and_lists_of_elements():
    dataset = tf.data.Dataset.from_tensors({"y": 1, "x": [[1.0, 2.0]]})
    (element,) = value(dataset, SEQUENCE)
    assert list(element) == ["x", "y"]
    (element,) = value([{"y": 1, "x": [[1.0, 2.0]]}], SEQUENCE)
    assert list(element) == ["x", "y"]
    # As the type has it, a dataset is not touched.
    same = tf.data.Dataset.from_tensors(
        collections.OrderedDict(x=tf.zeros((1, 2)), y=tf.constant(1))
    )
    assert (
        value(same, tff.SequenceType(tff.types.tensorflow_to_type(same.element_spec)))
        is same
    )


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (3, "give a tf.data.Dataset, or a list of its elements"),
        ({"x": 1}, "a dict give a tf.data.Dataset"),
        ([{"x": [[1.0, 2.0]]}], r"clients\['a'\], element 0: a dict .*no member y"),
        (
            tf.data.Dataset.from_tensors({"x": [[1.0, 2.0]], "y": np.int64(1)}),
            r"has elements <x=float32\[1,2\],y=int64>; the process takes",
        ),
        (tf.data.Dataset.range(3), "has elements int64; the process takes"),
    ],
)
def test_a_dataset_of_another_form(given, match):
    with pytest.raises(SettingError, match=match):
        value(given, SEQUENCE)


@pytest.mark.parametrize(
    ("given", "dtype", "match"),
    [
        (300, np.uint8, "has 300, which no uint8 can hold"),
        ([1, -1], np.uint8, "has -1, which no uint8"),
        (2**31, np.int32, "has 2147483648, which no int32"),
        (2**63, np.int64, "has 9223372036854775808, which no int64"),
        (2, np.bool_, "has 2, which no bool"),
        (2**24 + 1, np.float32, "has 16777217, which no float32"),
        ([1, 2**53 + 1], np.float64, "has 9007199254740993, which no float64"),
        (257, tf.bfloat16.as_numpy_dtype, "has 257, which no bfloat16"),
        (2**24 + 1, np.complex64, "has 16777217, which no complex64"),
        (1e300, np.float32, r"has 1e\+300, which no float32"),
        ("12", np.float32, "is <U2; convert it to float32"),
        (None, np.float32, "is object; convert it to float32"),
        (1 + 2j, np.float32, "is complex128; convert it to float32"),
    ],
)
def test_numbers_that_the_type_cannot_hold(given, dtype, match):
    shape = np.shape(given)
    with pytest.raises(SettingError, match=match):
        value(given, tff.TensorType(dtype, shape))


def test_numbers_of_python_in_another_type():
    floats = tff.TensorType(np.float32, [None])
    assert value([1, True, 2.5, np.inf], floats).tolist() == [1, 1, 2.5, np.inf]
    assert value([2**24, 2**40], floats).tolist() == [2**24, 2**40]
    assert value([], tff.TensorType(np.int32, [None])).dtype == np.int32
    assert value(1, tff.TensorType(np.bool_)).dtype == np.bool_
    assert value([1.5, 2], tff.TensorType(tf.bfloat16.as_numpy_dtype, [2])).sum() == 3.5


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (iter([{"x": [[1.0, 2.0]], "y": 1}]), "can be read only once; give a list"),
        ({1, 2}, "a set give a tf.data.Dataset, or a list"),
    ],
)
def test_elements_without_an_order_or_that_are_read_once(given, match):
    with pytest.raises(SettingError, match=match):
        value(given, SEQUENCE)


def test_texts():
    words = tff.TensorType(np.str_, [None])
    assert value(["ε", b"b"], words).tolist() == ["ε".encode(), b"b"]
    with pytest.raises(SettingError, match=r"a list is int\d+; the process takes str"):
        value([1, 2], words)


def test_tffs_client_data():
    source = tff.simulation.datasets.TestClientData(
        {"a": {"x": np.zeros((2, 1, 2), np.float32), "y": np.array([1, 2], np.int32)}}
    )
    clients = clients_of(source, None, SEQUENCE)
    assert clients.client_ids == ("a",)
    elements = list(clients.cohort(["a"], seed=0, round_number=1)[0])
    assert [int(each["y"]) for each in elements] == [1, 2]


def test_the_digest_of_clients_sees_every_value():
    def found(values):
        return digest_of(clients_of(values, None, SEQUENCE))

    def data(y):
        return [{"x": [[1.0, 2.0]], "y": y}]

    one = found({"a": data(1), "b": data(2)})
    assert one == found({"a": data(1), "b": data(2)})
    others = [found({"a": data(1), "b": data(3)}), found({"a": data(1)})]
    assert len({each.sha256 for each in (one, *others)}) == 3
    numbers = {"x": tf.zeros((9, 1, 2)), "y": tf.range(9)}
    shuffled = tf.data.Dataset.from_tensor_slices(numbers).shuffle(9)
    with pytest.raises(SettingError, match="has other values when it is read again"):
        found({"a": shuffled}).check_same()
    endless = tf.data.Dataset.from_tensor_slices(numbers).repeat()
    with pytest.raises(SettingError, match=r"clients\['a'\].*without an end; cut it"):
        found({"a": endless}).check_same()
    # What cannot be compared leaves the rest comparable.
    some = found({"a": data(1), "b": shuffled, "c": endless})
    assert some == found({"a": data(1), "b": shuffled, "c": endless})
    assert some.number_varying == 2
    assert some.sha256 != found({"a": data(2), "b": shuffled, "c": endless}).sha256


def test_a_start_reads_values_as_often_as_they_need_to_be(monkeypatch):
    """What is held cannot vary; a function's value, or a dataset, is read again."""
    read = []

    def load(name):
        read.append(name)
        return np.int32(1)

    options = {"clients": load, "client_ids": ["a", "b"]}
    prepared = prepare(tfl.ProcessExperiment(TOTAL, **options))
    assert read == []
    prepared.values_digest()
    assert read == ["a", "a", "b", "b"]

    number, dataset = np.float32(1), tf.data.Dataset.range(3)
    for value, kind, times in (
        (number, np.float32, 1),
        (dataset, tff.SequenceType(np.int64), 2),
        ([1, 2], tff.SequenceType(np.int64), 1),
        ({"s": dataset}, tff.StructType([("s", tff.SequenceType(np.int64))]), 2),
    ):
        digests = []

        def counted(value, digests=digests):
            digests.append(value)
            return "same"

        monkeypatch.setattr(client_digest, "_digest", counted)
        digest_of(clients_of({"a": value}, None, tff.to_type(kind)))
        assert len(digests) == times


def test_a_wrong_value_of_a_later_round_is_refused_at_once():
    """With one client a round, the wrong one would come in one of twenty rounds."""
    values = {f"client {number}": number for number in range(20)}
    cohorts = tfl.Cohorts(cohort_size=1)
    refused(
        r"clients\['client 19'\]: a float is float64; convert",
        clients={**values, "client 19": 1.5},
        cohorts=cohorts,
    )
    refused(
        r"clients\['client 7'\]: reading it failed \(KeyError",
        clients={
            name: value for name, value in values.items() if value != 7
        }.__getitem__,
        client_ids=list(values),
        cohorts=cohorts,
    )


def test_names_of_what_a_function_evaluates():
    def evaluated(found):
        return FunctionEvaluation(lambda _: found).evaluate(None).overall

    assert evaluated({"a,b\n": 1, "=x": 2}) == {"a_b_": 1.0, "_x": 2.0}
    for found in ({"": 1}, {1: 1, "1": 2}):
        with pytest.raises(UserError, match="give each metric its own name"):
            evaluated(found)


def test_a_callback_of_another_kind():
    with pytest.raises(SettingError, match="callbacks must be instances"):
        tfl.ProcessExperiment(None, callbacks=[print])
