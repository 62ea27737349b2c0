"""A site's sums in its folder: restarts, repeated rounds, what is not opened twice."""

from __future__ import annotations

import contextlib
import json
import stat

import numpy as np
import pytest
from secure_sum_runs import names_of

from tfl_research.federation.secure_sums import (
    Collector,
    SecureSumError,
    SiteSums,
    SumTerms,
    VectorSpec,
    session_of,
)
from tfl_research.storage.files import atomic

NAMES = names_of(4)
A, B, C, D = NAMES
SPEC = VectorSpec((2,), "int32", 2**32)
VECTORS = {name: [np.array([n, 10 * n], np.int32)] for n, name in enumerate(NAMES)}


def _terms(number, attempt, parties=NAMES):
    return SumTerms(session_of("run", number, attempt), parties, 3, (SPEC,))


class _Sites:
    """Four sites, of which each step makes a new object, as after a restart."""

    def __init__(self, folder):
        self._folder = folder

    def __getitem__(self, name):
        return SiteSums(self._folder / name, name)

    def until_unmask(self, number, attempt, masking=NAMES):
        collector = Collector(_terms(number, attempt))
        place = ("run", number, attempt)
        for name in NAMES:
            collector.add_keys(name, self[name].keys(*place, collector.terms))
        key_list = collector.key_list()
        for name in NAMES:
            collector.add_shares(name, self[name].shares(*place, key_list))
        incoming = collector.shares()
        for name in masking:
            answer = self[name].masked(*place, incoming[name], VECTORS[name])
            collector.add_masked(name, answer)
        return collector, collector.survivors()

    def open(self, number, attempt, masking=NAMES):
        collector, survivors = self.until_unmask(number, attempt, masking)
        for name in masking:
            answer = self[name].unmask("run", number, attempt, survivors)
            collector.add_unmask(name, answer)
        return collector.sums()[0].tolist()


@pytest.fixture
def sites(tmp_path):
    return _Sites(tmp_path)


def test_rounds_with_a_restart_before_each_step(sites):
    assert sites.open(1, 1) == [6, 60]
    assert sites.open(2, 1, masking=(B, C, D)) == [6, 60]
    assert sites.open(3, 1, masking=(A, C, D)) == [5, 50]


def test_only_the_owner_can_read_the_files(sites, tmp_path):
    sites.until_unmask(1, 1)
    assert stat.S_IMODE((tmp_path / A).stat().st_mode) == 0o700
    files = list((tmp_path / A).iterdir())
    assert sorted(path.suffix for path in files) == [".party", ".rounds"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_round_is_not_opened_for_two_sets_of_survivors(sites):
    assert sites.open(1, 1, masking=NAMES) == [6, 60]
    # The same set may be opened again: the sum is the same.
    assert sites.open(1, 2, masking=NAMES) == [6, 60]
    # Without D the two sums would show D's vector.
    _, survivors = sites.until_unmask(1, 3, masking=(A, B, C))
    before = sites[A]._path("run", "party").read_bytes()
    with pytest.raises(SecureSumError, match=f"{A} has opened round 1 for other surv"):
        sites[A].unmask("run", 1, 3, survivors)
    assert sites[A]._path("run", "party").read_bytes() == before
    assert sites.open(2, 1, masking=(A, B, C)) == [3, 30]


def test_a_further_attempt_has_the_same_parties(sites):
    sites.until_unmask(1, 1)
    with pytest.raises(SecureSumError, match="begun with other parties, threshold or"):
        sites[A].keys("run", 1, 2, _terms(1, 2, (A, B, C)))
    sites[A].keys("run", 2, 1, _terms(2, 1, (A, B, C)))


def test_an_earlier_attempt_is_over(sites):
    collector, survivors = sites.until_unmask(1, 1)
    sites[A].keys("run", 1, 2, _terms(1, 2))
    with pytest.raises(SecureSumError, match="round 1, attempt 1, is over"):
        sites[A].unmask("run", 1, 1, survivors)
    with pytest.raises(SecureSumError, match="round 1, attempt 1, is over"):
        sites[A].keys("run", 1, 1, collector.terms)
    sites[A].keys("run", 2, 1, _terms(2, 1))
    with pytest.raises(SecureSumError, match="round 1, attempt 2, is over"):
        sites[A].keys("run", 1, 2, _terms(1, 2))
    # A run that goes back to an earlier round needs a further attempt.
    sites[A].keys("run", 1, 3, _terms(1, 3))


def test_a_repeated_request_has_the_same_keys_and_terms(sites):
    first = sites[A].keys("run", 1, 1, _terms(1, 1))
    again = sites[A].keys("run", 1, 1, _terms(1, 1))
    np.testing.assert_array_equal(first["mask_key"], again["mask_key"])
    with pytest.raises(SecureSumError, match="was begun with other terms"):
        sites[A].keys("run", 1, 1, _terms(1, 1, (A, B, C)))
    with pytest.raises(SecureSumError, match="not of round 1, attempt 2"):
        sites[A].keys("run", 1, 2, _terms(1, 1))


def test_a_kill_between_two_files_loses_nothing(sites, monkeypatch):
    """Killed before each of the writes of a sum, a site repeats the step."""
    write = atomic.write
    place = ("run", 1, 1)
    collector = Collector(_terms(1, 1))

    def killed_then_repeated(step):
        """The step's answer, after a kill before its first and its second write."""
        for spared in range(2):
            left = [spared]

            def write_or_die(path, content, left=left, **options):
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
                write(path, content, **options)

            monkeypatch.setattr(atomic, "write", write_or_die)
            with contextlib.suppress(KeyboardInterrupt):
                step()
        monkeypatch.setattr(atomic, "write", write)
        return step()

    for name in NAMES:
        answer = killed_then_repeated(
            lambda n=name: sites[n].keys(*place, _terms(1, 1))
        )
        collector.add_keys(name, answer)
    key_list = collector.key_list()
    for name in NAMES:
        answer = killed_then_repeated(lambda n=name: sites[n].shares(*place, key_list))
        collector.add_shares(name, answer)
    incoming = collector.shares()
    for name in NAMES:
        answer = killed_then_repeated(
            lambda n=name: sites[n].masked(*place, incoming[n], VECTORS[n])
        )
        collector.add_masked(name, answer)
    survivors = collector.survivors()
    for name in NAMES:
        answer = killed_then_repeated(lambda n=name: sites[n].unmask(*place, survivors))
        collector.add_unmask(name, answer)
    assert collector.sums()[0].tolist() == [6, 60]


def test_the_end_drops_keys_and_keeps_what_was_opened(sites):
    _, survivors = sites.until_unmask(1, 1)
    sites[A].unmask("run", 1, 1, survivors)
    sites[A].end("run")
    assert not sites[A]._path("run", "party").exists()
    with pytest.raises(SecureSumError, match="is over or was never begun here"):
        sites[A].unmask("run", 1, 1, survivors)
    record = json.loads(sites[A]._path("run", "rounds").read_text())
    assert record["rounds"]["1"]["survivors"] == list(NAMES)
    sites[A].end("another run")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "is damaged"), (b"[]", "is damaged"), (b'{"format": 1}', "is damaged")],
)
def test_a_damaged_record_is_named(sites, content, message):
    sites[A].keys("run", 1, 1, _terms(1, 1))
    sites[A]._path("run", "rounds").write_bytes(content)
    with pytest.raises(SecureSumError, match=message):
        sites[A].keys("run", 1, 2, _terms(1, 2))


def test_a_damaged_party_is_named_and_can_be_removed(sites):
    sites[A].keys("run", 1, 1, _terms(1, 1))
    path = sites[A]._path("run", "party")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(SecureSumError, match=rf"{path}: .*damaged.*; remove the file"):
        sites[A].keys("run", 1, 2, _terms(1, 2))
    path.unlink()
    sites[A].keys("run", 1, 2, _terms(1, 2))


def test_a_record_of_a_newer_version_is_named(sites):
    sites[A].keys("run", 1, 1, _terms(1, 1))
    path = sites[A]._path("run", "rounds")
    path.write_text('{"format": 2, "rounds": {}}')
    with pytest.raises(SecureSumError, match="has format 2; this version reads 1"):
        sites[A].keys("run", 1, 2, _terms(1, 2))


def test_rounds_with_new_noise_may_have_other_survivors(tmp_path):
    sites = _Sites(tmp_path)
    sites.open(5, 1)
    sites.open(6, 1, masking=(A, B, C))
    for name in NAMES:
        sites[name].forget_after("run", 5)
    assert sites.open(6, 2) == [6, 60]
    with pytest.raises(SecureSumError, match="has opened round 5 for other survivors"):
        sites.open(5, 2, masking=(A, B, C))
