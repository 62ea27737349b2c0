import numpy as np
import pytest

from tfl_research.tasks.built_in import loans


@pytest.fixture(scope="module")
def task():
    return loans.build()


def _labels(task):
    return np.concatenate(
        [e["y"] for data in (task.train, task.test) for _, e in data.items()]
    )


def test_fifty_states_and_ten_thousand_loans(task):
    assert len(task.train) == len(task.test) == 50
    assert {"CA", "DC"} <= set(task.train.client_ids)
    assert "IA" not in task.train.client_ids
    assert task.held_out is None
    assert len(_labels(task)) == 10_000
    assert task.train.num_examples("CA") + task.test.num_examples("CA") == 1330


@pytest.mark.parametrize(("target", "count"), [("risky_grade", 1851), ("bad", 178)])
def test_class_balance(target, count):
    labels = _labels(loans.build(target=target))
    assert set(np.unique(labels)) == {0, 1}
    assert labels.sum() == count


def test_no_column_tells_the_verdict_or_the_outcome():
    read = {column.column for column in loans.SCHEMA.columns}
    assert not read & {
        *("grade", "sub_grade", "interest_rate", "installment", "loan_status"),
        *("balance", "paid_total", "paid_principal", "paid_interest"),
        *("paid_late_fees", "initial_listing_status", "disbursement_method"),
        *("issue_month", "state", "rownames"),
    }


def test_features_are_finite_and_in_their_range(task):
    assert task.train.specs["x"].shape == (len(loans.SCHEMA.feature_names),)
    for data in (task.train, task.test):
        for _, examples in data.items():
            assert examples["x"].dtype == np.float32
            assert np.isfinite(examples["x"]).all()
            assert (np.abs(examples["x"]) <= 1.0).all()


def test_the_first_loan_by_hand():
    table = loans.read_loans()[:1]
    names = loans.SCHEMA.feature_names
    x = dict(zip(names, loans.SCHEMA.encode(table)[0]))
    # 28,000 dollars over 60 months for moving, an individual in New Jersey.
    assert x["loan_amount"] == pytest.approx(2 * 28_000 / 40_000 - 1)
    assert x["term=60"] == 1
    assert x["loan_purpose=moving"] == 1
    assert x["application_type=individual"] == 1
    assert x["debt_to_income_joint is missing"] == 1
    assert x["annual_income"] == pytest.approx(
        2 * np.log1p(90_000) / np.log1p(1_000_000) - 1
    )


def test_splits_and_held_out_states_are_functions_of_the_seed(task):
    np.testing.assert_array_equal(
        loans.build().test.load("TX")["x"], task.test.load("TX")["x"]
    )
    assert not np.array_equal(
        loans.build(seed=1).test.load("TX")["x"], task.test.load("TX")["x"]
    )
    first = loans.build(held_out_fraction=0.1)
    assert len(first.held_out) == 5
    assert len(first.train) == 45
    assert not set(first.held_out.client_ids) & set(first.train.client_ids)
    again = loans.build(held_out_fraction=0.1)
    assert again.held_out.client_ids == first.held_out.client_ids


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "rich"}, "target must be risky_grade or bad, got 'rich'"),
        ({"model": "tree"}, "model must be logistic or mlp, got 'tree'"),
        ({"held_out_fraction": 1.0}, "held_out_fraction must be at least 0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        loans.build(**options)


def test_the_model_maps_examples_to_one_logit(task):
    examples = task.train.load("NY")
    logits = task.build_model()(examples["x"])
    assert logits.shape == (len(examples["y"]), 1)
    assert task.selection_metric == "auc"
