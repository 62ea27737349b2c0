"""A site's part in the secure sums of its runs, and sums that it refuses to open."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

from tfl_research.federation.secure_sums.errors import SecureSumError
from tfl_research.federation.secure_sums.party import Party
from tfl_research.federation.secure_sums.terms import SumTerms, session_of
from tfl_research.federation.secure_sums.wire import Arrays
from tfl_research.storage.files import atomic

_FORMAT = 1


class SiteSums:
    """Answers the steps of sums for a site, and writes each answer before giving it.

    A run has one sum at a time. A further sum, for another round or a further attempt
    at a round, ends the sum before, and drops the keys of that sum.

    A round is opened for only one set of survivors. Two sums of a round's vectors, over
    sets that differ by one party, would reveal that party's vector. So if a round is
    tried again, because the coordinator was killed, a site that has opened the round
    refuses other survivors. More than half of the parties must answer, so the second
    sum needs some party that has opened the first sum. This requires that the parties,
    the threshold and the vectors of a round stay the same in all its attempts, from the
    site's first masked vector on. `forget_after` is for rounds with new noise.

    Args:
      folder: the folder of the files; a missing folder is made. Only its owner can read
        it. Each run has `ID.party` (format of `PartyState`) and `ID.rounds` (format 1):
        JSON with `format`, `run` and `rounds`, for each round its last `attempt`, the
        digest of its `plan` and its `survivors`.
      name: the site's name.

    Example, for the site's side of one sum:
      >>> sums = SiteSums(folder, "north")
      >>> answer = sums.keys("run", 1, 1, terms)
      >>> answer = sums.shares("run", 1, 1, key_list)
      >>> answer = sums.masked("run", 1, 1, incoming, vectors)
      >>> answer = sums.unmask("run", 1, 1, survivors)
    """

    def __init__(self, folder: pathlib.Path, name: str):
        self._folder = folder
        self._name = name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def keys(self, run: str, number: int, attempt: int, terms: SumTerms) -> Arrays:
        """Begins a sum, and returns the site's public keys.

        Args:
          run: the run's id.
          number: the round, from 1.
          attempt: number of the sum among the sums begun for the round, from 1.
          terms: the terms that the coordinator proposes; their session is `session_of`
            run, number and attempt.

        Raises:
          SecureSumError: the terms have another session, or differ from the terms of an
            earlier attempt at the round; or the attempt is over.
        """
        if terms.session != session_of(run, number, attempt):
            raise SecureSumError(
                f"the terms of a sum are not of round {number}, attempt {attempt}, of "
                "this run"
            )
        rounds = self._rounds(run)
        known = rounds.setdefault(str(number), _new_round())
        if known["plan"] not in (None, _plan(terms)):
            raise SecureSumError(
                f"round {number} was begun with other parties, threshold or vectors; a "
                "further attempt needs the same parties, threshold and vectors"
            )
        party = self._party(run)
        if party is None or party.terms.session != terms.session:
            if attempt <= known["attempt"]:
                raise _over(number, attempt)
            party = Party(self._name, terms)
            self._keep(run, party)
        elif party.terms != terms:
            raise SecureSumError(
                f"round {number}, attempt {attempt}, was begun with other terms"
            )
        # After a kill between the two files, the repeated request comes here again.
        if known["attempt"] < attempt:
            known["attempt"] = attempt
            self._keep_rounds(run, rounds)
        return party.keys()

    def shares(
        self, run: str, number: int, attempt: int, key_list: Mapping[str, np.ndarray]
    ) -> Arrays:
        """The site's shares for the others, see `Party.shares`."""
        party = self._current(run, number, attempt)
        answer = party.shares(key_list)
        self._keep(run, party)
        return answer

    def masked(
        self,
        run: str,
        number: int,
        attempt: int,
        incoming: Mapping[str, np.ndarray],
        vectors: Sequence[np.ndarray],
    ) -> Arrays:
        """The site's vectors under its masks, see `Party.masked`."""
        party = self._current(run, number, attempt)
        answer = party.masked(incoming, vectors)
        rounds = self._rounds(run)
        rounds[str(number)]["plan"] = _plan(party.terms)
        self._keep_rounds(run, rounds)
        self._keep(run, party)
        return answer

    def unmask(
        self, run: str, number: int, attempt: int, survivors: Mapping[str, np.ndarray]
    ) -> Arrays:
        """The shares that open the sum, see `Party.unmask`.

        Raises:
          SecureSumError: the step does not fit, or the site has opened the round for
            other survivors.
        """
        party = self._current(run, number, attempt)
        answer = party.unmask(survivors)
        rounds = self._rounds(run)
        names = list(party.survivors)
        if rounds[str(number)]["survivors"] not in (None, names):
            raise SecureSumError(
                f"{self._name} has opened round {number} for other survivors: both "
                "sums together would show a vector"
            )
        rounds[str(number)]["survivors"] = names
        self._keep_rounds(run, rounds)
        self._keep(run, party)
        return answer

    def forget_after(self, run: str, number: int) -> None:
        """Drops durably the record of a run's rounds after a round.

        Use this only if the site's vectors of these rounds will have new noise. Then
        other survivors may be in the sum, and the sum is charged as another release.

        Args:
          run: the run's id.
          number: the last round that stays on record.
        """
        rounds = self._rounds(run)
        kept = {name: round_ for name, round_ in rounds.items() if int(name) <= number}
        if len(kept) < len(rounds):
            self._path(run, "party").unlink(missing_ok=True)
            self._keep_rounds(run, kept)

    def end(self, run: str) -> None:
        """Drops the keys of the run's last sum, but keeps the record of opened sums."""
        self._path(run, "party").unlink(missing_ok=True)

    def _current(self, run: str, number: int, attempt: int) -> Party:
        """Returns the party of the run's present sum."""
        party = self._party(run)
        if party is None or party.terms.session != session_of(run, number, attempt):
            raise _over(number, attempt)
        return party

    def _path(self, run: str, suffix: str) -> pathlib.Path:
        digest = hashlib.sha256(run.encode()).hexdigest()[:32]
        return self._folder / f"{digest}.{suffix}"

    def _party(self, run: str) -> Optional[Party]:
        path = self._path(run, "party")
        if not path.exists():
            return None
        try:
            return Party.from_bytes(path.read_bytes())
        except SecureSumError as error:
            raise SecureSumError(
                f"{path}: {error}; remove the file, which loses the sum that the run "
                "is working on"
            ) from None

    def _keep(self, run: str, party: Party) -> None:
        atomic.write(self._path(run, "party"), party.to_bytes(), mode=0o600)

    def _rounds(self, run: str) -> dict[str, Any]:
        path = self._path(run, "rounds")
        if not path.exists():
            return {}
        try:
            content = json.loads(path.read_bytes())
            version, rounds = content["format"], content["rounds"]
        except (KeyError, TypeError, ValueError):
            raise SecureSumError(
                f"{path} is damaged: it does not hold a record of rounds; restore the "
                "file"
            ) from None
        if version != _FORMAT:
            raise SecureSumError(
                f"{path} has format {version!r}; this version reads {_FORMAT}"
            )
        return dict(rounds)

    def _keep_rounds(self, run: str, rounds: Mapping[str, Any]) -> None:
        content = {"format": _FORMAT, "run": run, "rounds": rounds}
        path = self._path(run, "rounds")
        atomic.write(path, json.dumps(content).encode(), mode=0o600)


def _new_round() -> dict[str, Any]:
    return {"attempt": 0, "plan": None, "survivors": None}


def _plan(terms: SumTerms) -> str:
    """A digest of the terms without their session."""
    content = {**terms.as_json(), "session": None}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _over(number: int, attempt: int) -> SecureSumError:
    return SecureSumError(
        f"the sum of round {number}, attempt {attempt}, is over or was never begun here"
    )
