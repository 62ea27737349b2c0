"""A site's own noise: one seed for each attempt of a run, and its charges."""

import os
import stat

import numpy as np
import pytest

from tfl_research.experiment.at_sites.site import secret_of
from tfl_research.federation.site.site_noise import SiteNoise, own_seed
from tfl_research.federation.wire.handler import Refused
from tfl_research.federation.wire.messages import Message, MessageError

SECRET = b"s" * 32


class Charges:
    """A ledger that notes what it is told."""

    def __init__(self):
        self.lines = []

    def charge(self, number):
        self.lines.append(number)

    def restart(self, after):
        self.lines.append(("restart", after))

    def close(self):
        self.lines.append("closed")


def request(number, value=0.0, restarts=0, after=0):
    header = {"round": number, "clients": ["a"], "state_rounds": {"a": number - 1}}
    header.update(restarts=restarts, restarted_after=after)
    return Message("round", header, {"context/0": np.array([value])})


@pytest.fixture
def opened(tmp_path):
    def opened(**options):
        options = {"draws": True, "covers": "data", "ledger": Charges(), **options}
        return SiteNoise(tmp_path, SECRET, **options)

    return opened


def test_noise_is_not_used_for_two_models(opened):
    noise = opened()
    noise.take(request(1))
    noise.take(request(1))
    with pytest.raises(Refused, match="round 1 was computed before for another"):
        noise.take(request(1, 2.0))
    noise.close()
    with pytest.raises(Refused, match="round 1 was computed before for another"):
        opened(covers="other data").take(request(1))


def test_a_run_that_begins_again_has_new_noise_and_charges_again(opened, tmp_path):
    noise = opened()
    noise.take(request(1))
    noise.take(request(2))
    assert noise.seed == own_seed(SECRET, tmp_path.name)
    noise.take(request(2, 5.0, restarts=1, after=1))
    assert noise.seed == own_seed(SECRET, tmp_path.name, 1)
    assert noise.ledger.lines == [1, 2, ("restart", 1), 2]
    # The same attempt does not restart twice, also in a new process.
    noise.take(request(3, restarts=1, after=1))
    noise.close()
    again = opened()
    assert again.seed == own_seed(SECRET, tmp_path.name, 1)
    again.take(request(3, restarts=1, after=1))
    assert again.ledger.lines == [3]
    with pytest.raises(Refused, match="has begun again with new noise 1 times"):
        again.take(request(2))
    assert again.ledger.lines == [3]
    assert len({own_seed(SECRET, "run", n) for n in range(4)}) == 4


def test_rounds_before_a_restart_get_no_new_noise(opened):
    """Otherwise a coordinator could ask for charged rounds again, without a charge."""
    noise = opened()
    for number in (1, 2, 3):
        noise.take(request(number))
    for attempt in (1, 2):
        for number in (1, 2, 3):
            with pytest.raises(Refused, match="after round 3, so round"):
                noise.take(request(number, 5.0, restarts=attempt, after=3))
    noise.take(request(4, 5.0, restarts=2, after=3))
    assert noise.ledger.lines == [1, 2, 3, ("restart", 3), ("restart", 3), 4]
    # What was said with the restart holds, whatever a later request says.
    with pytest.raises(Refused, match="after round 3, so round 2"):
        noise.take(request(2, 5.0, restarts=2, after=0))


@pytest.mark.parametrize(
    ("restarts", "after"), [(2**70, 0), (-1, 0), (1, -1), (1, 2**70)]
)
def test_numbers_out_of_range_change_nothing(opened, restarts, after):
    noise = opened()
    noise.take(request(1))
    with pytest.raises(MessageError, match="expected numbers from 0"):
        noise.take(request(2, restarts=restarts, after=after))
    assert noise.ledger.lines == [1]


def test_noise_is_not_used_for_two_states_of_a_client(opened):
    noise = opened()
    noise.take(request(5))
    other = request(5)
    other.header["state_rounds"] = {"a": 3}
    with pytest.raises(Refused, match="round 5 was computed before for another"):
        noise.take(other)


def test_a_restart_forgets_what_else_is_kept_of_later_rounds(opened):
    told = []
    noise = opened(forget=told.append)
    noise.take(request(1))
    noise.take(request(2, restarts=1, after=1))
    noise.take(request(3, restarts=1, after=1))
    assert told == [1]


def test_a_kill_between_ledger_and_seed_repeats_both(opened):
    class Killed(Charges):
        def restart(self, after):
            super().restart(after)
            raise KeyboardInterrupt

    noise = opened(ledger=Killed())
    noise.take(request(1))
    with pytest.raises(KeyboardInterrupt):
        noise.take(request(1, 3.0, restarts=1))
    noise.close()
    again = opened()
    again.take(request(1, 3.0, restarts=1))
    assert again.ledger.lines == [("restart", 0), 1]


def test_a_site_without_noise_needs_no_restart(opened):
    noise = opened(draws=False, ledger=None)
    noise.take(request(1))
    noise.take(request(1, 9.0))


def test_a_request_without_the_fields_is_refused(opened):
    bare = Message("round", {"round": 1, "clients": ["a"]}, {})
    with pytest.raises(MessageError, match="restarts"):
        opened().take(bare)


def test_a_kill_while_a_secret_is_made_leaves_none(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            secret_of(tmp_path)
    assert not (tmp_path / "secret").exists()
    secret = secret_of(tmp_path)
    assert len(secret) == 32
    assert secret_of(tmp_path) == secret
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
