import numpy as np
import pytest

from tfl_research.tasks.built_in import flights

# Flights that arrived.
SMALL_CARRIERS = {"OO": 29, "HA": 342, "YV": 544}


@pytest.fixture(scope="module")
def task():
    return flights.build()


def test_sixteen_carriers_and_all_flights_that_arrived(task):
    assert len(task.train) == len(task.test) == 16
    assert task.held_out is None
    flown = {
        carrier: task.train.num_examples(carrier) + task.test.num_examples(carrier)
        for carrier in task.train.client_ids
    }
    assert sum(flown.values()) == 327_346 == 336_776 - 9_430
    assert {c: flown[c] for c in SMALL_CARRIERS} == SMALL_CARRIERS


def test_about_a_quarter_is_late(task):
    labels = np.concatenate([e["y"] for _, e in task.train.items()])
    assert set(np.unique(labels)) == {0, 1}
    assert 0.22 < labels.mean() < 0.27


def test_late_means_fifteen_minutes_or_more(task):
    table = flights.read_flights()
    late = sum(
        examples["y"].sum()
        for data in (task.train, task.test)
        for _, examples in data.items()
    )
    assert late == (table["arr_delay"] > 14).sum() == 80_100


def test_only_the_schedule_is_read():
    assert {c.column for c in flights.SCHEMA.columns} == {
        *("hour", "month", "weekday", "origin", "dest", "distance"),
    }


def test_features_are_finite_and_in_their_range(task):
    size = len(flights.SCHEMA.feature_names)
    assert task.train.specs["x"].shape == (size,) == (149,)
    for data in (task.train, task.test):
        for _, examples in data.items():
            assert np.isfinite(examples["x"]).all()
            assert (np.abs(examples["x"]) <= 1.0).all()
            # One each of hour, month, weekday, origin and destination.
            assert (examples["x"][:, :-1].sum(axis=1) == 5).all()


def test_new_years_day_2013_was_a_tuesday():
    table = flights.read_flights()
    first = table[(table["month"] == 1) & (table["day"] == 1)]
    assert set(first["weekday"]) == {1}


def test_no_day_is_in_both_splits():
    table = flights.read_flights()
    tests = flights._on_test_days(table["date"], 0.2, 0)
    days = table["date"].to_numpy()
    assert not set(days[tests]) & set(days[~tests])
    # 365 coins of 0.2: 73 days on average, with a standard deviation of 7.6.
    assert abs(len(set(days[tests])) - 73) < 3 * 7.6
    # Every month is trained on and tested on.
    assert set(table["month"][tests]) == set(range(1, 13))


def test_test_days_are_a_function_of_the_seed():
    dates = flights.read_flights()["date"]
    first = flights._on_test_days(dates, 0.2, 0)
    assert (flights._on_test_days(dates, 0.2, 0) == first).all()
    assert (flights._on_test_days(dates, 0.2, 1) != first).any()


def test_carriers_can_be_held_out():
    task = flights.build(held_out_fraction=0.25)
    assert len(task.train) == 12
    assert len(task.held_out) == 4
    assert not set(task.train.client_ids) & set(task.held_out.client_ids)
    total = sum(
        data.num_examples(carrier)
        for data in (task.train, task.test, task.held_out)
        for carrier in data.client_ids
    )
    assert total == 327_346


def test_a_carrier_without_test_days_has_an_empty_test_split():
    task = flights.build(test_fraction=0.001)
    assert task.test.num_examples("OO") == 0
    assert task.test.load("OO")["x"].shape == (0, 149)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "tree"}, "model must be logistic or mlp, got 'tree'"),
        ({"test_fraction": 1.0}, "test_fraction must be at least 0"),
        ({"held_out_fraction": 2.0}, "held_out_fraction must be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        flights.build(**options)


@pytest.mark.parametrize("model", ["logistic", "mlp"])
def test_models_map_examples_to_one_logit(model):
    task = flights.build(model=model)
    examples = task.train.load("HA")
    assert task.build_model()(examples["x"]).shape == (len(examples["y"]), 1)
