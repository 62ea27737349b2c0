"""What a site tells about itself, which anyone may have written."""

from __future__ import annotations

import numpy as np
import pytest

from tfl_research.data import ArraySpec
from tfl_research.federation.facts import AllFacts, SiteFacts
from tfl_research.federation.wire.messages import MessageError

_HEADER = {
    "clients": ["a", "b"],
    "specs": {"x": ["<f4", [3]], "y": ["<i8", []], "z": ["|O", [2, 0]]},
    "sizes": {"a": 5, "b": 0},
    "agreed": "schema",
    "mark": "data",
}


def test_facts_read_back_unchanged():
    facts = SiteFacts.of("north", _HEADER)
    assert facts.header() == _HEADER
    assert facts.specs["x"] == ArraySpec((3,), np.dtype("float32"))
    hidden = SiteFacts.of("north", {**_HEADER, "sizes": None})
    assert hidden.sizes is None
    both = [{"site": "north", **facts.header()}]
    assert AllFacts.of(both).sites == {"north": facts}


@pytest.mark.parametrize(
    "change",
    [
        # NumPy takes these as types.
        {"specs": {"x": [",", [3]]}},
        {"specs": {"x": ["i4,i4", [3]]}},
        {"specs": {"x": ["float32", [3]]}},
        {"specs": {"x": [None, [3]]}},
        {"specs": {"x": ["<f4", [-3]]}},
        {"specs": {"x": ["<f4", [2.7]]}},
        {"specs": {"x": ["<f4", "12"]}},
        {"specs": {"x": ["<f4", [1] * 17]}},
        {"specs": {"x": ["<f4"]}},
        {"specs": []},
        {"sizes": {"a": 5.9, "b": 0}},
        {"sizes": {"a": True, "b": 0}},
        {"sizes": {"a": "5", "b": 0}},
        {"sizes": {"a": -1, "b": 0}},
        {"sizes": {"a": 10**19, "b": 0}},
        {"sizes": {"a": 5}},
        {"clients": "ab"},
        {"clients": {"a": 1, "b": 2}},
        {"clients": [1, 2]},
        {"clients": ["a", "a"]},
        {"clients": []},
        {"clients": ["x" * 501], "sizes": None},
        {"agreed": 5},
        {"mark": None},
    ],
)
def test_facts_of_another_form(change):
    with pytest.raises(MessageError, match=r"^site north: "):
        SiteFacts.of("north", {**_HEADER, **change})
    with pytest.raises(MessageError):
        AllFacts.of([{"site": "north", **_HEADER, **change}])


@pytest.mark.parametrize("header", [[{}], [5], [{"site": 5}], 5])
def test_facts_without_a_site(header):
    with pytest.raises(MessageError, match="the sites' facts cannot be read"):
        AllFacts.of(header)
