"""Malicious clients, flipped labels and backdoors, without TensorFlow."""

from __future__ import annotations

import numpy as np
import pytest

from tfl_research import attacks, data

IDS = tuple(f"client_{number}" for number in range(25))


class TestMaliciousClients:
    @pytest.mark.parametrize(
        ("clients", "fraction", "expected"),
        [
            (25, 0.2, 5),
            (30, 0.15, 5),
            (10, 0.25, 3),
            (10, 0.24, 2),
            (7, 1, 7),
            (9, 0, 0),
        ],
    )
    def test_exact_counts(self, clients, fraction, expected):
        assert attacks.malicious_count(clients, fraction) == expected
        ids = [str(number) for number in range(clients)]
        assert len(attacks.malicious_clients(ids, fraction, seed=1)) == expected

    def test_a_function_of_ids_and_seed(self):
        chosen = attacks.malicious_clients(IDS, 0.2, seed=4)
        assert chosen == attacks.malicious_clients(IDS, 0.2, seed=4)
        assert set(chosen) == set(attacks.malicious_clients(IDS[::-1], 0.2, seed=4))
        assert chosen != attacks.malicious_clients(IDS, 0.2, seed=5)
        assert set(chosen) < set(attacks.malicious_clients(IDS, 0.4, seed=4))

    def test_in_the_order_of_the_population(self):
        chosen = attacks.malicious_clients(IDS, 0.5, seed=0)
        assert list(chosen) == sorted(chosen, key=IDS.index)

    def test_every_client_is_as_likely(self):
        counts = dict.fromkeys(IDS, 0)
        for seed in range(500):
            for client in attacks.malicious_clients(IDS, 0.2, seed):
                counts[client] += 1
        # Binomial(500, 0.2): mean 100, deviation 9.
        assert 65 < min(counts.values()) <= max(counts.values()) < 135

    def test_fractions_out_of_range(self):
        with pytest.raises(ValueError, match=r"fraction must be in \[0, 1\], got 1.5"):
            attacks.malicious_clients(IDS, 1.5, seed=0)

    def test_how_many_a_cohort_has(self):
        def most(size, independent, probability=0.99):
            return attacks.malicious_in_cohort(
                50, 10, size, independent=independent, probability=probability
            )

        assert most(50, False) == 10
        # Of 2 drawn without replacement both are malicious with 10·9 / (50·49) = 0.037.
        assert most(2, False) == 2
        assert most(2, False, 0.9632) == 1
        # Binomial(10, 1/2): P(X <= 8) = 1 - 11/1024 = 0.98926.
        assert most(25, True) == 9
        assert most(25, True, 0.989) == 8


def clients(**overrides):
    generator = np.random.default_rng(0)
    held = {
        name: {
            "x": generator.random((6, 9), dtype=np.float32),
            "y": np.array([0, 1, 2, 3, 1, 2], np.int32),
        }
        for name in ("a", "b", "c")
    }
    held.update(overrides)
    return data.ClientData.from_arrays(held)


class TestLabelFlipping:
    def test_by_hand(self):
        labels = np.array([0, 1, 9], np.int32)
        reverse = attacks.flip_labels(labels, 10)
        assert reverse.tolist() == [9, 8, 0]
        assert reverse.dtype == np.int32
        assert attacks.flip_labels(labels, 10, "pairwise").tolist() == [1, 2, 0]
        assert labels.tolist() == [0, 1, 9]
        small = np.array([0, 1], np.uint8)
        assert attacks.flip_labels(small, 2).tolist() == [1, 0]
        assert attacks.flip_labels(np.zeros(0, np.int64), 2).shape == (0,)

    @pytest.mark.parametrize(
        ("labels", "classes", "kind", "message"),
        [
            ([0], 2, "random", "one of reverse, pairwise"),
            ([0], 1, "reverse", "at least 2, got 1"),
            ([2], 2, "reverse", r"in \[0, 2\), got 2 to 2"),
            ([-1], 2, "pairwise", r"got -1 to -1"),
        ],
    )
    def test_what_is_refused(self, labels, classes, kind, message):
        with pytest.raises(ValueError, match=message):
            attacks.flip_labels(np.array(labels), classes, kind)

    def test_only_malicious_clients_hold_other_labels(self):
        honest = clients()
        poison = attacks.label_flipping(4)
        changed = attacks.poisoned(honest, {"b"}, poison)
        assert changed.load("a") is honest.load("a")
        assert changed.load("b")["y"].tolist() == [3, 2, 1, 0, 2, 1]
        assert changed.load("b")["x"] is honest.load("b")["x"]
        assert honest.load("b")["y"].tolist() == [0, 1, 2, 3, 1, 2]

    def test_cohorts_are_of_the_changed_examples(self):
        changed = attacks.poisoned(clients(), {"b"}, attacks.label_flipping(4))
        before = clients().cohort(("a", "b"), seed=0, round_number=1).stacked()
        after = changed.cohort(("a", "b"), seed=0, round_number=1).stacked()
        mask = after["mask"][1]
        np.testing.assert_array_equal(after["x"], before["x"])
        np.testing.assert_array_equal(after["y"][0], before["y"][0])
        np.testing.assert_array_equal(after["y"][1][mask], 3 - before["y"][1][mask])

    def test_classes_are_counted_over_all_clients(self):
        assert attacks.class_count(clients()) == 4
        x = np.zeros((1, 9), np.float32)
        more = clients(d={"x": x, "y": np.array([7], np.int32)})
        assert attacks.class_count(more) == 8
        ones = data.ClientData.from_arrays({"a": {"x": x, "y": np.zeros(1, np.int32)}})
        assert attacks.class_count(ones) == 2

    def test_labels_that_are_no_classes(self):
        x = np.zeros((2, 9), np.float32)
        for y in (np.zeros(2, np.float32), np.zeros((2, 3), np.int32)):
            wrong = data.ClientData.from_arrays({"a": {"x": x, "y": y}})
            with pytest.raises(ValueError, match="one class for each example"):
                attacks.class_count(wrong)
        empty = data.ClientData.from_arrays(
            {"a": {"x": x[:0], "y": np.zeros(0, np.int32)}}
        )
        with pytest.raises(ValueError, match="got none"):
            attacks.class_count(empty)


class TestTrigger:
    def test_the_patch_is_in_the_lower_right_corner(self):
        trigger = attacks.Trigger("patch", 1.0, size=2)
        image = np.zeros((1, 4, 4), np.float32)
        marked = trigger.apply(image)
        expected = np.zeros((4, 4))
        expected[2:, 2:] = 1
        np.testing.assert_array_equal(marked[0], expected)
        assert image.sum() == 0
        flat = trigger.apply(image.reshape(1, 16))
        np.testing.assert_array_equal(flat[0], expected.ravel())
        coloured = trigger.apply(np.zeros((1, 4, 4, 3), np.float32))
        np.testing.assert_array_equal(coloured[0, :, :, 1], expected)

    def test_a_feature(self):
        marked = attacks.Trigger("feature", 5.0, feature=1).apply(np.ones((2, 3)))
        assert marked.tolist() == [[1, 5, 1], [1, 5, 1]]

    @pytest.mark.parametrize(
        ("shape", "kind", "value"),
        [
            ((784,), "patch", 1.0),
            ((28, 28, 1), "patch", 1.0),
            ((28, 28), "patch", 1.0),
            ((35,), "feature", 5.0),
            ((64,), "feature", 5.0),
            ((120,), "feature", 5.0),
        ],
    )
    def test_what_suits_a_shape(self, shape, kind, value):
        found = attacks.Trigger.for_examples(shape)
        assert (found.kind, found.value) == (kind, value)

    @pytest.mark.parametrize(
        ("shape", "arguments", "message"),
        [
            ((35,), {"kind": "patch"}, "needs images"),
            ((35,), {"feature": 35}, "at least 36 features"),
            ((28, 28), {"kind": "feature"}, "needs vectors"),
            ((4, 4), {"size": 5}, "5 pixels does not fit"),
            ((16,), {"kind": "patch", "size": 5}, "5 pixels does not fit"),
            ((4, 4), {"size": 0}, "size must be at least 1"),
            ((4,), {"feature": -1}, "feature must be at least 0"),
            ((4,), {"value": float("nan")}, "must be finite"),
            ((4,), {"kind": "word"}, "a patch or a feature"),
        ],
    )
    def test_what_does_not_fit(self, shape, arguments, message):
        with pytest.raises(ValueError, match=message):
            attacks.Trigger.for_examples(shape, **arguments)

    def test_tokens_have_no_trigger(self):
        with pytest.raises(ValueError, match="needs float features"):
            attacks.Trigger("feature", 1.0).apply(np.zeros((1, 3), np.int32))


class TestBackdoor:
    TRIGGER = attacks.Trigger("feature", 5.0, feature=2)

    @pytest.mark.parametrize(("share", "count"), [(0.5, 3), (0.01, 1), (1.0, 6)])
    def test_a_share_is_triggered_and_relabelled(self, share, count):
        honest = clients()
        poison = attacks.backdooring(self.TRIGGER, 3, share, seed=0)
        changed = attacks.poisoned(honest, ("a",), poison)
        before, after = honest.load("a"), changed.load("a")
        rows = (after["x"] != before["x"]).any(axis=1)
        assert rows.sum() == count
        assert (after["x"][rows, 2] == 5).all()
        assert (after["y"][rows] == 3).all()
        np.testing.assert_array_equal(after["y"][~rows], before["y"][~rows])
        assert len(after["y"]) == len(before["y"])
        again = changed.load("a")
        np.testing.assert_array_equal(again["x"], after["x"])
        assert changed.load("b") is honest.load("b")

    def test_clients_without_examples(self):
        empty = {"x": np.zeros((0, 9), np.float32), "y": np.zeros(0, np.int32)}
        poison = attacks.backdooring(self.TRIGGER, 3, 0.5, seed=0)
        assert len(poison("a", empty)["y"]) == 0

    def test_the_test_split_is_of_other_classes(self):
        held = attacks.triggered(clients(), self.TRIGGER, target=1).load("a")
        assert held["y"].tolist() == [1, 1, 1, 1]
        assert (held["x"][:, 2] == 5).all()
        original = clients().load("a")["x"][[0, 2, 3, 5]]
        np.testing.assert_array_equal(
            np.delete(held["x"], 2, axis=1), np.delete(original, 2, axis=1)
        )

    @pytest.mark.parametrize(("target", "share"), [(0, 0.0), (0, 1.5), (-1, 0.5)])
    def test_what_is_refused(self, target, share):
        with pytest.raises(ValueError, match="must be"):
            attacks.backdooring(self.TRIGGER, target, share, seed=0)
