"""Captions and lines of the pictures of a metric over clients."""

import pytest

from tfl_research.report.pictures import distributions


@pytest.mark.parametrize(
    ("values", "metric", "caption", "has_line"),
    [
        (
            [place / 20 for place in range(20)],
            "accuracy",
            "20 clients: mean 0.475, the worst has 0, the worst tenth has at most "
            "0.05.",
            True,
        ),
        # Of 11 clients, the worst tenth are two.
        (
            [float(place) for place in range(11)],
            "loss",
            "11 clients: mean 5, the worst has 10, the worst tenth has at least 9.",
            True,
        ),
        # The worst tenth of ten clients is the worst client.
        (
            [place / 10 for place in range(10)],
            "accuracy",
            "10 clients: mean 0.45, the worst has 0.",
            False,
        ),
        ([0.5], "accuracy", "1 client: mean 0.5, the worst has 0.5.", False),
    ],
)
def test_worst_tenth(values, metric, caption, has_line):
    picture = distributions.distribution(values, metric, "final", "key")
    assert picture.caption == caption
    assert ("worst tenth" in picture.svg) == has_line
