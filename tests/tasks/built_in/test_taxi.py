import numpy as np
import pytest

from tfl_research.tasks.built_in import taxi


@pytest.fixture(scope="module")
def task():
    return taxi.build()


def test_seven_companies_and_ten_thousand_trips(task):
    trips = {
        name: task.train.num_examples(name) + task.test.num_examples(name)
        for name in task.train.client_ids
    }
    assert trips == {
        "Chicago Independents": 781,
        "City Service": 1187,
        "Flash Cab": 1010,
        "Sun Taxi": 1382,
        "Taxi Affiliation Services": 1694,
        "Taxicab Insurance Agency Llc": 1231,
        "other": 2715,
    }
    assert task.held_out is None


def test_tips(task):
    labels = np.concatenate(
        [e["y"] for data in (task.train, task.test) for _, e in data.items()]
    )
    assert set(np.unique(labels)) == {0, 1}
    assert labels.sum() == 9209


def test_features_are_finite_and_do_not_hold_the_tip(task):
    assert {c.column for c in taxi.SCHEMA.columns} == {
        *("distance", "local", "dow", "month", "hour"),
    }
    assert task.train.specs["x"].shape == (len(taxi.SCHEMA.feature_names),)
    for data in (task.train, task.test):
        for _, examples in data.items():
            assert np.isfinite(examples["x"]).all()
            assert (np.abs(examples["x"]) <= 1.0).all()


def test_splits_are_a_function_of_the_seed(task):
    x = task.test.load("other")["x"]
    np.testing.assert_array_equal(taxi.build().test.load("other")["x"], x)
    assert not np.array_equal(taxi.build(seed=1).test.load("other")["x"], x)


def test_a_company_can_be_held_out():
    task = taxi.build(held_out="Sun Taxi")
    assert len(task.train) == 6
    assert task.held_out.num_examples("Sun Taxi") == 1382


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": "Cab"}, "cannot hold out 'Cab'; the clients are Chicago Ind"),
        ({"model": "tree"}, "model must be logistic or mlp, got 'tree'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        taxi.build(**options)


def test_the_model_maps_examples_to_one_logit(task):
    examples = task.train.load("Flash Cab")
    assert task.build_model()(examples["x"]).shape == (len(examples["y"]), 1)
