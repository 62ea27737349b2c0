"""Leaves of nests by path."""

from __future__ import annotations

import collections
import dataclasses

from tfl_research.storage import nest

Pair = collections.namedtuple("Pair", "first second")


@dataclasses.dataclass
class Held:
    leaf: int
    others: list[int]


class TestPut:
    def test_leaves_at_paths(self):
        value = {"a": Pair(1, [2, 3]), "b": Held(4, [5]), "c": None}
        paths = [path for path, leaf in nest.flatten(value) if leaf in (3, 4)]
        assert nest.put(value, paths, 9) == {
            "a": Pair(1, [2, 9]),
            "b": Held(9, [5]),
            "c": None,
        }
        assert value == {"a": Pair(1, [2, 3]), "b": Held(4, [5]), "c": None}

    def test_other_parts_are_shared(self):
        value = {"a": [1, 2], "b": [3]}
        changed = nest.put(value, ["['b'][0]"], 4)
        assert changed == {"a": [1, 2], "b": [4]}
        assert changed["a"] is value["a"]

    def test_no_path(self):
        value = {"a": [1, 2]}
        assert nest.put(value, [], 4) is value
