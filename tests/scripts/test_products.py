"""The matrix products of recurrent models, which scripts/bench times alone."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from benchmark.large import LARGE, SMALL  # noqa: E402
from benchmark.products import Product, _computed, of_step  # noqa: E402

SPECS = {**LARGE, **SMALL}
RECURRENT = [n for n, s in SPECS.items() if s.model == "lstm"]


@pytest.mark.parametrize("name", RECURRENT)
def test_they_have_the_operations_of_the_model(name):
    """Which `large.flops` counts from the weights alone."""
    spec = SPECS[name]
    steps = spec.num_clients * math.ceil(spec.examples / spec.batch_size)
    found = steps * sum(product.flops for product in of_step(spec))
    assert found == pytest.approx(spec.flops(), rel=1e-12)


def test_of_a_recurrent_model_by_hand():
    """Two sequences of five ids; an LSTM of six units; one label for a sequence."""
    spec = dataclasses.replace(SMALL["W5_small"], layers=1)
    assert (spec.batch_size, spec.length, spec.embedding, spec.width) == (2, 5, 8, 6)
    assert of_step(spec) == [
        *(Product(10, 8, 24), Product(10, 24, 8), Product(8, 10, 24)),
        *(Product(2, 6, 24, 5), Product(2, 24, 6, 5), Product(6, 10, 24)),
        *(Product(2, 6, 80), Product(2, 80, 6), Product(6, 2, 80)),
    ]


def test_products_in_a_row_take_the_result_of_the_one_before():
    left, right = np.float32([[1, 2]]), np.float32([[1, 0, 5, 5], [1, 1, 5, 5]])
    wide = _computed(Product(1, 2, 4, in_a_row=3), left, right)
    np.testing.assert_array_equal(wide, [[7, 2]])
    left, right = np.float32([[1, 2, 3]]), np.float32([[1, 0], [0, 1], [1, 0]])
    narrow = _computed(Product(1, 3, 2, in_a_row=2), left, right)
    # [4, 2] and then [4, 2, 4] times the matrix.
    np.testing.assert_array_equal(narrow, [[8, 2, 8]])


@pytest.mark.parametrize("name", ["W7", "W8"])
def test_other_models_have_none(name):
    with pytest.raises(ValueError, match="is not a recurrent model"):
        of_step(LARGE[name])


_ROUNDS = """
from benchmark import workloads
from benchmark.contenders import CONTENDERS

for name in ("W5_small", "W6_small"):
    running = CONTENDERS["products"](workloads.get(name))
    for number in range(2):
        running.run(number)
try:
    CONTENDERS["products"](workloads.get("W1"))
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_rounds_run():
    """In a process whose TensorFlow has one thread for an operation."""
    ended = subprocess.run(
        [sys.executable, "-c", _ROUNDS],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT}"},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("is not a larger model\n")
