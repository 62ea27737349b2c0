"""ε of rounds beside other charges, for many rounds at once."""

from __future__ import annotations

import numpy as np
import pytest

from tfl_research import privacy
from tfl_research.privacy.accounting.run_curve import RunCurve

ROUND = privacy.GaussianEvent.poisson(1.0, 0.05)
FIXED = privacy.GaussianEvent("fixed_size", 2.0, 0.05, 1000, 50.0, "replace_one")
WHOLE = privacy.GaussianEvent("none", 5.0, 1.0, 1000, 1000.0, "add_or_remove_one")
OTHER = privacy.GaussianEvent.poisson(2.0, 0.03)
PURE = privacy.PureEvent(0.3, "add_or_remove_one")


@pytest.mark.parametrize(
    ("event", "beside"),
    [
        (ROUND, [(WHOLE, 3)]),
        (ROUND, [(OTHER, 20)]),
        (ROUND, [(PURE, 1)]),
        (ROUND, [(WHOLE, 2), (OTHER, 5), (PURE, 2)]),
        (ROUND, [(ROUND, 7)]),
        (FIXED, [(privacy.PureEvent(0.3, "replace_one"), 2)]),
        pytest.param(WHOLE, [(OTHER, 5)], marks=pytest.mark.campaign),
    ],
)
def test_values_are_those_of_each_composition(event, beside):
    curve = RunCurve(event, 1e-5)
    found = [curve(rounds, beside) for rounds in range(1, 120)]
    assert np.all(np.diff(found) >= 0)
    for rounds in (1, 2, 3, 17, 64, 119):
        expected = privacy.composed_epsilon([(event, rounds), *beside], 1e-5)
        assert found[rounds - 1] == pytest.approx(expected, rel=1e-9)


def test_values_do_not_depend_on_what_was_asked_before():
    whole, late = RunCurve(ROUND, 1e-5), RunCurve(ROUND, 1e-5)
    beside = [(WHOLE, 3)]
    found = [whole(rounds, beside) for rounds in range(1, 60)]
    assert [late(n, beside) for n in (57, 58, 59)] == pytest.approx(
        found[-3:], rel=1e-9
    )
    # Other charges in between, and back.
    assert whole(10, [(OTHER, 1)]) < found[9]
    assert whole(10, beside) == pytest.approx(found[9], rel=1e-9)


def test_many_rounds_are_composed_at_once():
    curve, beside = RunCurve(ROUND, 1e-5), [(OTHER, 20)]
    curve(1, beside)
    for rounds in range(2, 600):
        curve(rounds, beside)
    # One by one, it is a block a round.
    assert len(curve._blocks) < 20
