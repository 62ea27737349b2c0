"""Several inputs and labels, weights, text and no labels, as client data."""

from __future__ import annotations

import numpy as np
import pytest

from tfl_research import attacks
from tfl_research.data import (
    Batching,
    ClientData,
    client_splits,
    content_digest,
)
from tfl_research.data.partitions import client_skews, feature_divergence, statistics
from tfl_research.experiment import server_root
from tfl_research.privacy.audit import canaries

NAMES = ("x/city", "x/size", "y/kind", "sample_weight")


def _examples(count, first=0):
    rows = np.arange(first, first + count)
    return {
        "sample_weight": rows.astype(np.float32) / 2,
        "y/kind": rows.astype(np.int32),
        "x/size": np.stack([rows, rows], axis=1).astype(np.float32),
        "x/city": np.array([f"city {row}".encode() for row in rows], object),
    }


def _clients(*sizes):
    return {f"c{i}": _examples(n, 100 * i) for i, n in enumerate(sizes)}


def test_local_steps_by_hand():
    clients = ClientData.from_arrays(_clients(3, 1), Batching(2, shuffle=False))
    assert tuple(clients.specs) == NAMES
    assert clients.num_examples("c0") == 3
    stacked = clients.cohort(["c0", "c1"], seed=0, round_number=1).stacked(
        num_clients=3
    )
    assert tuple(stacked)[:5] == (*NAMES, "mask")
    assert stacked["x/city"].tolist() == [
        [[b"city 0", b"city 1"], [b"city 2", b""]],
        [[b"city 100", b""], [b"", b""]],
        [[b"", b""], [b"", b""]],
    ]
    assert stacked["y/kind"].tolist()[0] == [[0, 1], [2, 0]]
    assert stacked["x/size"][1, 0].tolist() == [[100, 100], [0, 0]]
    assert stacked["sample_weight"][0].tolist() == [[0, 0.5], [1, 0]]
    assert stacked["num_examples"].tolist() == [3, 1, 0]


def test_a_name_of_an_array_is_taken():
    cohort = ClientData.from_arrays(_clients(3)).cohort(["c0"], seed=0, round_number=1)
    with pytest.raises(ValueError, match="already have a member 'x/size'"):
        cohort.with_members(**{"x/size": np.zeros(1)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x/size": None}, "client 'c1' lacks the array 'x/size'; expected x/city, "),
        ({"x/more": np.zeros(3)}, "client 'c1' has the array 'x/more'; expected"),
        ({"y/kind": np.zeros(2, np.int32)}, "'c1' has 3 rows of x/city but 2 of y/k"),
        ({"sample_weight": np.zeros(3)}, "client 'c1' has sample_weight of .*float64"),
    ],
)
def test_clients_that_disagree(change, message):
    data = _clients(3, 3)
    data["c1"] = {n: a for n, a in {**data["c1"], **change}.items() if a is not None}
    with pytest.raises(ValueError, match=message):
        ClientData.from_arrays(data)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'c0': unknown array 'weights'; expected x"):
        ClientData.from_arrays({"c0": {**_examples(2), "weights": np.zeros(2)}})


@pytest.mark.parametrize("name", NAMES)
def test_a_split_goes_by_every_array_and_moves_no_other_record(name):
    data = _clients(200)
    kwargs = {"test_fraction": 0.5, "seed": 3}
    train, test, _ = client_splits.split_arrays(data, **kwargs)
    lazy = client_splits.split_each_client(ClientData.from_arrays(data), **kwargs)
    for split, other in zip((train, test), lazy):
        for array in NAMES:
            assert np.array_equal(split.load("c0")[array], other.load("c0")[array])
    rows = train.load("c0")["y/kind"]
    assert np.array_equal(train.load("c0")["x/size"][:, 0], rows)
    moved = 0
    for row in range(12):
        changed = {n: array.copy() for n, array in data["c0"].items()}
        changed[name][row] = b"other" if name == "x/city" else 1000
        other, _, _ = client_splits.split_arrays({"c0": changed}, **kwargs)
        index = "x/size" if name == "y/kind" else "y/kind"
        kept = other.load("c0")[index].reshape(-1)
        before = train.load("c0")[index].reshape(-1)
        assert set(kept) ^ set(before) <= {row}
        moved += bool(set(kept) ^ set(before))
    assert moved > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_digest_covers_every_array(name):
    one = content_digest({"train": ClientData.from_arrays(_clients(3))})
    again = content_digest({"train": ClientData.from_arrays(_clients(3))})
    changed = _clients(3)
    changed["c0"][name][1] = b"city " if name == "x/city" else 7
    assert one == again
    assert one != content_digest({"train": ClientData.from_arrays(changed)})


def test_text_has_a_digest_of_its_contents_alone():
    def of(*texts):
        array = np.array(texts, object)
        return content_digest({"a": ClientData.from_arrays({"c": {"x": array}})})

    assert of("ab", "c") == of(b"ab", b"c")
    assert len({of("ab", "c"), of("a", "bc"), of("abc", ""), of("ab")}) == 4


def test_what_adds_clients_keeps_all_arrays():
    clients = ClientData.from_arrays(_clients(3, 2))
    joined = canaries.Canaries(2, 0).join(clients)
    empty = joined.load("canary-1")
    assert tuple(empty) == NAMES
    assert empty["x/city"].dtype == object
    assert empty["x/size"].shape == (0, 2)
    root = server_root._drawn(clients, 5, 0)
    assert sorted(root["y/kind"]) == [0, 1, 2, 100, 101]
    assert sorted(root["x/city"]) == [f"city {i}".encode() for i in (0, 1, 100, 101, 2)]
    together = client_splits.pooled(clients).load("pooled")
    assert together["sample_weight"].tolist() == [0, 0.5, 1, 50, 50.5]


def test_data_without_labels():
    clients = ClientData.from_arrays({"c": {"x": np.zeros((3, 2), np.float32)}})
    stacked = clients.cohort(["c"], seed=0, round_number=1).stacked()
    assert "y" not in stacked
    assert stacked["num_examples"].tolist() == [3]


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (
            lambda d: client_skews.rotation(d, 45),
            "rotation needs one array x",
        ),
        (lambda d: client_skews.noise(d, 1.0, seed=0), "noise needs one"),
        (
            lambda d: client_skews.concept_shift(d, 2, num_classes=3, seed=0),
            "concept shift needs one array y; the data have y/kind",
        ),
        (attacks.class_count, "an attack on labels needs one array y; .* y/kind"),
        (statistics.label_statistics, "a count of labels needs one array y"),
    ],
)
def test_what_needs_one_array_says_so(use, message):
    with pytest.raises(ValueError, match=message) as error:
        use(ClientData.from_arrays(_clients(3)))
    assert "\n" not in str(error.value)


def test_several_inputs_have_no_feature_divergence():
    clients = ClientData.from_arrays(_clients(3))
    assert feature_divergence.feature_divergence(clients) == {}


def test_skews_and_attacks_keep_the_weights():
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    y = np.array([0, 1, 1, 2], np.int32)
    weights = np.arange(4, dtype=np.float32)
    clients = ClientData.from_arrays({"c": {"x": x, "y": y, "sample_weight": weights}})
    noised = client_skews.noise(clients, 1.0, seed=0).load("c")
    assert noised["sample_weight"].tolist() == [0, 1, 2, 3]
    assert not np.array_equal(noised["x"], x)
    trigger = attacks.Trigger("feature", 9.0)
    marked = attacks.triggered(clients, trigger, 1).load("c")
    assert marked["sample_weight"].tolist() == [0, 3]
    assert marked["y"].tolist() == [1, 1]
    flipped = attacks.poisoned(clients, ["c"], attacks.label_flipping(3)).load("c")
    assert flipped["y"].tolist() == [2, 1, 1, 0]
    assert flipped["sample_weight"].tolist() == [0, 1, 2, 3]
