"""Sites and the coordinator of secure sums are killed by SIGKILL, and go on."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import signal

import numpy as np
import pytest
from secure_sum_runs import names_of, random_vector

from tfl_research.federation.secure_sums import (
    Collector,
    SecureSumError,
    SiteSums,
    SumAbandonedError,
    SumTerms,
    VectorSpec,
    session_of,
)

NAMES = names_of(5)
SPEC = VectorSpec((5_000,), "int64", 2**61 - 1)
KILLS = 50
# What a new site has loaded when it starts.
_PRELOADED = ["pytest", "tfl_research.federation.secure_sums.site_sums"]


def vector_of(name, number):
    """A site's vector of a round, the same after every restart."""
    return random_vector(SPEC, np.random.default_rng([number, NAMES.index(name)]))


def site_process(folder, name, pipe):
    """A site: answers requests until it is killed."""
    sums = SiteSums(folder, name)
    while True:
        step, place, message = pipe.recv()
        vectors = [[vector_of(name, place[1])]] if step == "masked" else []
        try:
            pipe.send(getattr(sums, step)(*place, message, *vectors))
        except SecureSumError as error:
            pipe.send(error)


class _Site:
    """A site's process, which is started again after a kill."""

    context = multiprocessing.get_context("forkserver")

    def __init__(self, folder, name):
        self._arguments = folder / name, name
        self._process = None
        self.kills = 0

    def start(self):
        self._pipe, other = self.context.Pipe()
        self._process = self.context.Process(
            target=site_process, args=(*self._arguments, other), daemon=True
        )
        self._process.start()
        other.close()

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.join()
            assert self._process.exitcode == -signal.SIGKILL
            self._process.close()
            self._process = None
            self.kills += 1

    def ask(self, request, kill_after=None):
        """The site's answer.

        With `kill_after` the process is killed so many seconds after it was asked, and
        a second process is asked again.
        """
        if self._process is None:
            self.start()
        self._pipe.send(request)
        if kill_after is not None:
            # An answer that the first process gave is lost.
            self._pipe.poll(kill_after)
            self.kill()
            return self.ask(request)
        answer = self._pipe.recv()
        if isinstance(answer, SecureSumError):
            raise answer
        return answer


class _CoordinatorKilledError(Exception):
    pass


def _attempt(sites, number, attempt, dice, opened):
    """One attempt at a round: the survivors and their sum."""
    terms = SumTerms(session_of("run", number, attempt), NAMES, 3, (SPEC,))
    collector = Collector(terms)
    place = ("run", number, attempt)
    gone = {name for name in NAMES if dice.random() < 0.15}

    def ask_all(step, names, message_for, add):
        for name in names:
            if name in gone:
                continue
            if dice.random() < 0.05:
                raise _CoordinatorKilledError
            delay = dice.uniform(0, 0.01) if dice.random() < 0.35 else None
            with contextlib.suppress(SecureSumError):
                answer = sites[name].ask((step, place, message_for(name)), delay)
                if step == "unmask":
                    story = (number, collector.answered["masked"])
                    opened.setdefault(story, set()).add(name)
                add(name, answer)
        gone.update(name for name in NAMES if dice.random() < 0.02)

    ask_all("keys", NAMES, lambda name: terms, collector.add_keys)
    key_list = collector.key_list()
    names = collector.answered["keys"]
    ask_all("shares", names, lambda name: key_list, collector.add_shares)
    incoming = collector.shares()
    ask_all("masked", incoming, lambda name: incoming[name], collector.add_masked)
    survivors = collector.survivors()
    names = collector.answered["masked"]
    ask_all("unmask", names, lambda name: survivors, collector.add_unmask)
    return names, collector.sums()[0]


@pytest.mark.slow
def test_fifty_kills_at_random_moments(tmp_path):
    """Each round is the plain sum of its survivors, or is abandoned with a line."""
    dice = random.Random(3)
    _Site.context.set_forkserver_preload(_PRELOADED)
    sites = {name: _Site(tmp_path, name) for name in NAMES}
    opened, summed, abandoned, restarts = {}, 0, 0, 0
    number = 0
    try:
        while sum(site.kills for site in sites.values()) + restarts < KILLS:
            number += 1
            for attempt in range(1, 20):
                try:
                    names, total = _attempt(sites, number, attempt, dice, opened)
                except _CoordinatorKilledError:
                    restarts += 1
                    continue
                except SumAbandonedError:
                    abandoned += 1
                    break
                expected = np.zeros(SPEC.size, np.int64)
                for name in names:
                    expected = (expected + vector_of(name, number)) % SPEC.modulus
                np.testing.assert_array_equal(total, expected)
                summed += 1
                break
    finally:
        for site in sites.values():
            site.kill()
    # No round had enough answers for two sets of survivors.
    rounds = [number for (number, _), names in opened.items() if len(names) >= 3]
    assert len(rounds) == len(set(rounds))
    # Each kind of end was seen.
    assert min(summed, abandoned, restarts) > 0
