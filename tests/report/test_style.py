"""A figure that is lent again draws the same bytes as a new one."""

from __future__ import annotations

import threading

import matplotlib as mpl
import numpy as np
import pytest

from tfl_research.report.pictures import curves, style
from tfl_research.report.pictures.panels import Panel, Series

# Reach: sizes of values, numbers of curves, of ticks and of points.
GENERATOR = np.random.default_rng(3)


def panel(scale, *, count, points, **changed):
    series = tuple(
        Series(
            f"curve {number}",
            tuple(map(float, range(points))),
            tuple(map(float, scale * GENERATOR.normal(size=points))),
        )
        for number in range(count)
    )
    values = [value for one in series for value in one.values]
    return Panel("title", series, min(values) - scale, max(values) + scale, **changed)


PANELS = [
    panel(1.0, count=1, points=4),
    panel(1e9, count=4, points=60, limit=(2e8, "budget 5")),
    panel(1e-7, count=2, points=2),
    panel(30.0, count=7, points=500),
    Panel("far", (Series("a", (0.0, 9.0), (1.0, 1e6)),), 0.5, 2e6, is_logarithmic=True),
    panel(0.2, count=1, points=40),
]


def pictures(*, afresh):
    found = []
    for number, one in enumerate(PANELS):
        if afresh:
            style._waiting.__dict__.clear()
        found.append(curves.draw(one, f"k{number}"))
    return found


def test_the_bytes_are_those_of_new_figures():
    expected = pictures(afresh=True)
    assert len({picture.svg for picture in expected}) == len(PANELS)
    pictures(afresh=False)
    assert pictures(afresh=False) == expected


def test_a_figure_keeps_no_settings_of_matplotlib():
    before = curves.draw(PANELS[0], "k")
    with mpl.rc_context({"xtick.major.size": 12.0}):
        changed = curves.draw(PANELS[0], "k")
        style._waiting.__dict__.clear()
        assert curves.draw(PANELS[0], "k") == changed != before
    assert curves.draw(PANELS[0], "k") == before


def test_a_figure_is_lent_once():
    style._waiting.__dict__.clear()
    with style.applied():
        with style.lent(4, 3) as (first, _), style.lent(4, 3) as (second, _):
            assert first is not second
        with style.lent(4, 3) as (again, _):
            assert again is first
        with style.lent(3, 4) as (other, _):
            assert other is not first
        with pytest.raises(ZeroDivisionError), style.lent(4, 3) as (failed, _):
            raise ZeroDivisionError
        with style.lent(4, 3) as (new, _):
            assert new is not failed


def test_threads_have_figures_of_their_own():
    found = []

    def take():
        with style.applied(), style.lent(4, 3) as (made, _):
            found.append(made)

    take()
    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert found[0] is not found[1]
