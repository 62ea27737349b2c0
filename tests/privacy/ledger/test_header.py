"""The first line of a run's own ledger: whose noise it is, and with which seed."""

from __future__ import annotations

import hashlib
import json

import pytest

from tfl_research import privacy
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.ledger import hash_chain, spending

EVENT = GaussianEvent("none", 8.0, 1.0, 200, 10.0, "add_or_remove_one")
RUN, SEED = "0123456789abcdef", 2**127 + 5
IDENTITY = privacy.RunIdentity(RUN, SEED)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def test_a_new_ledger_begins_with_run_and_commitment(path):
    with privacy.Ledger(path, IDENTITY) as ledger:
        ledger.record(1, EVENT)
    first, second = map(json.loads, path.read_bytes().splitlines())
    seed = SEED.to_bytes(16, "big")
    digest = hashlib.sha256(bytes.fromhex(first["salt"]) + seed).hexdigest()
    assert first.pop("hash") == second["previous"]
    salt = first.pop("salt")
    assert len(salt) == 32
    assert first == {
        "ledger": 2,
        "run": RUN,
        "seed_sha256": digest,
        "previous": "0" * 64,
    }
    with privacy.Ledger(path, IDENTITY) as ledger:
        assert (len(ledger), ledger.header.run) == (1, RUN)
        assert ledger.position["lines"] == 2
    # A salt of its own for every ledger.
    with privacy.Ledger(path.with_name("other"), IDENTITY) as other:
        assert other.header.salt != salt
    assert str(SEED) not in repr(IDENTITY)


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        (privacy.RunIdentity(RUN, SEED + 1), "begun with another run seed"),
        (privacy.RunIdentity("f" * 16, SEED), "is of run 0123456789abcdef, but this"),
    ],
)
def test_another_seed_or_run_is_refused_in_one_line(path, identity, message):
    privacy.Ledger(path, IDENTITY).close()
    whole = path.read_bytes()
    with pytest.raises(ValueError, match=message) as refused:
        privacy.Ledger(path, identity)
    assert "\n" not in str(refused.value)
    assert str(SEED) not in str(refused.value)
    assert path.read_bytes() == whole


def test_a_ledger_without_a_first_line_is_read_but_not_resumed(path):
    with privacy.Ledger(path) as old:
        old.record(1, EVENT)
    with pytest.raises(ValueError, match="of an earlier version") as refused:
        privacy.Ledger(path, IDENTITY)
    assert "\n" not in str(refused.value)
    assert spending.read_ledger(path).runs[0].groups == [(EVENT, 1)]
    with privacy.Ledger(path) as ledger:
        assert ledger.header is None


def test_a_kill_around_the_first_line(path):
    """Before it, in the middle of it, and after it."""
    path.touch()
    privacy.Ledger(path, IDENTITY).close()
    whole = path.read_bytes()
    for length in (1, 12, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        path.with_name("ledger.jsonl.head").unlink(missing_ok=True)
        with pytest.warns(UserWarning, match="dropped line 1"):
            ledger = privacy.Ledger(path, IDENTITY)
        with ledger:
            assert ledger.header.commits_to(SEED)
    path.write_bytes(whole)
    path.with_name("ledger.jsonl.head").unlink()
    with privacy.Ledger(path, IDENTITY) as ledger:
        assert len(ledger) == 0
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"ledger": 3},
        {"run": "short"},
        {"salt": "0"},
        {"seed_sha256": 7},
        {"note": "extra"},
    ],
)
def test_impossible_first_lines_are_refused(path, changes):
    fields = {"ledger": 2, "run": RUN, "salt": "0" * 32, "seed_sha256": "0" * 64}
    line, _ = hash_chain.encode({**fields, **changes}, hash_chain.NO_LINE_HASH)
    path.write_bytes(line + b"\n")
    with pytest.raises(ValueError, match=r"ledger\.jsonl, line 1: "):
        privacy.Ledger(path)


@pytest.mark.parametrize("seed", [-1, 2**128])
def test_seeds_out_of_range_are_refused_without_naming_them(seed):
    with pytest.raises(ValueError, match=r"run_seed must be in \[0, 2\^128\)$"):
        privacy.RunIdentity(RUN, seed)
