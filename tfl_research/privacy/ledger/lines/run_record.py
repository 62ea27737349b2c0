"""The entries of one run so far, and which entry may come next."""

from __future__ import annotations

from collections.abc import Sequence

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger.lines.entries import Entry, Release, Restart, Round


class RunRecord:
    """The entries of one run so far, and which entry may come next.

    A restart charges nothing. The charges before a restart remain, also those of rounds
    that are repeated.

    Attributes:
      entries: the entries of all lines, in their order.
      rounds: the event of round 1, 2, ... of the present attempt.
      charged: every charged round in the order of the lines, including rounds that were
        repeated.
      releases: every charged release.
      counts: rounds and releases by (tag, event). Each release with an event that does
        not compose by rounds has its own tag.
    """

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self.entries: list[Entry] = []
        self.rounds: list[Event] = []
        self.charged: list[Event] = []
        self.releases: list[Release] = []
        self.counts: dict[tuple[str, Event], int] = {}
        self._restarts = 0
        # Charges of earlier attempts beyond the rounds that are kept, and the releases
        # of the present attempt, with their tags.
        self._earlier: dict[tuple[str, Event], int] = {}
        self._present: dict[tuple[str, int], tuple[str, Event]] = {}
        for entry in entries:
            self.add("entries", entry)

    @property
    def furthest(self) -> int:
        """The largest number of a charged round in any attempt."""
        return max(
            (entry.round for entry in self.entries if isinstance(entry, Round)),
            default=0,
        )

    @property
    def superseded(self) -> int:
        """The number of charged rounds that a later attempt repeats."""
        return len(self.charged) - len(self.rounds)

    @property
    def present_releases(self) -> list[Event]:
        """The events of the releases of the present attempt."""
        return [event for _, event in self._present.values()]

    def add(self, where: str, entry: Entry) -> None:
        """Adds the next line's entry.

        Args:
          where: the beginning of the messages.
          entry: the entry of the line.

        Raises:
          ValueError: the entry cannot come next.
        """
        if isinstance(entry, Round):
            if entry.round != len(self.rounds) + 1:
                raise ValueError(
                    f"{where}: is round {entry.round}, expected round "
                    f"{len(self.rounds) + 1}"
                )
            event = entry.event
            # Equal rounds share one object.
            if self.charged and self.charged[-1] == event:
                event = self.charged[-1]
                entry = Round(entry.round, event)
            self.rounds.append(event)
            self.charged.append(event)
            self._count("", event)
        elif isinstance(entry, Restart):
            if entry.restart != self._restarts + 1 or entry.after > len(self.rounds):
                raise ValueError(
                    f"{where}: is restart {entry.restart} after round {entry.after}, "
                    f"and cannot follow {self._restarts} restarts and round "
                    f"{len(self.rounds)}"
                )
            self._restarts += 1
            del self.rounds[entry.after :]
            self._present.clear()
            self._earlier = dict(self.counts)
            for event in self.rounds:
                self._earlier["", event] -= 1
        else:
            if entry.round > len(self.rounds):
                raise ValueError(
                    f"{where}: is a release after round {entry.round}, but the rounds "
                    f"end at {len(self.rounds)}"
                )
            if (entry.release, entry.round) in self._present:
                raise ValueError(
                    f"{where}: has the release {entry.release!r} after round "
                    f"{entry.round} a second time"
                )
            self.releases.append(entry)
            tag = self.tag(entry)
            self._present[entry.release, entry.round] = tag, entry.event
            self._count(tag, entry.event)
        self.entries.append(entry)

    def beside(self, rounds: int) -> tuple[tuple[Event, int], ...]:
        """Returns the charges in addition to the first rounds of the present attempt.

        These are the charges of earlier attempts for rounds that were repeated, and the
        releases after the first rounds.

        Args:
          rounds: the number of first rounds that count.

        Returns:
          Pairs for `accounting.composed_epsilon`.
        """
        counts = dict(self._earlier)
        for (_, round_number), key in self._present.items():
            if round_number <= rounds:
                counts[key] = counts.get(key, 0) + 1
        return tuple((event, n) for (_, event), n in counts.items() if n)

    def _count(self, tag: str, event: Event) -> None:
        self.counts[tag, event] = self.counts.get((tag, event), 0) + 1

    def tag(self, entry: Entry) -> str:
        """Returns the tag in `counts` of an entry that comes next or was added last."""
        if isinstance(entry, Release) and not entry.event.composes_by_round:
            return f"{entry.release} {entry.round} {self._restarts}"
        return ""

    def next_round(self, where: str, round_number: int, event: Event) -> Round | None:
        """Returns the entry to write for a round; None if it is recorded already.

        Args:
          where: the name of the ledger (and the run) in messages.
          round_number: the number of the round, from 1.
          event: the event of the round.

        Raises:
          ValueError: the round is recorded with another event, an earlier round is
            missing, or a mechanism over all rounds would change during the run.
        """
        recorded = self.rounds
        if round_number < 1 or round_number > len(recorded) + 1:
            raise ValueError(
                f"{where} has rounds 1 to {len(recorded)}: round {round_number} cannot "
                "be recorded next"
            )
        if round_number <= len(recorded):
            earlier = recorded[round_number - 1]
            if earlier != event:
                raise ValueError(
                    f"{where} has round {round_number} as {earlier}, but the run would "
                    f"repeat it as {event}: resume with the same privacy settings, or "
                    "start a new run"
                )
            return None
        if recorded and recorded[-1] != event:
            for either in (recorded[-1], event):
                if not either.composes_by_round:
                    raise ValueError(
                        f"{where} has {recorded[-1]} up to round {round_number - 1}, "
                        f"and round {round_number} would be {event}: a {either.kind} "
                        "mechanism cannot begin or end in mid-run; start a new run"
                    )
        return Round(round_number, event)

    def next_restart(self, where: str, after: int) -> Restart | None:
        """Returns the entry to write for a new attempt; None if recorded already.

        Args:
          where: see `next_round`.
          after: the last round that is not repeated.

        Raises:
          ValueError: the round is not recorded, or the noise of the rounds is
            correlated.
        """
        if not 0 <= after <= len(self.rounds):
            raise ValueError(
                f"{where} has rounds 1 to {len(self.rounds)}: rounds after {after} "
                "cannot be repeated"
            )
        for event in self.charged[-1:]:
            if not event.composes_by_round:
                raise ValueError(
                    f"{where} has rounds of a {event.kind} mechanism, whose noise is "
                    "correlated over the rounds, so no round can be repeated with new "
                    "noise: start a new run"
                )
        if not self.entries or self.entries[-1] == Restart(self._restarts, after):
            return None
        return Restart(self._restarts + 1, after)

    def next_release(
        self, where: str, name: str, round_number: int, event: Event
    ) -> Release | None:
        """Returns the entry to write for a release; None if it is recorded already.

        Args:
          where: see `next_round`.
          name: the name of the release, not empty.
          round_number: the last round before the release.
          event: the event of the release.

        Raises:
          ValueError: the round is not recorded, or the release is recorded with another
            event.
        """
        if not name:
            raise ValueError("the name of a release must not be empty")
        if not 0 <= round_number <= len(self.rounds):
            raise ValueError(
                f"{where} has rounds 1 to {len(self.rounds)}: {name} after round "
                f"{round_number} cannot be recorded"
            )
        there = self._present.get((name, round_number))
        if there is None:
            return Release(name, round_number, event)
        earlier = there[1]
        if earlier != event:
            raise ValueError(
                f"{where} has {name} after round {round_number} as {earlier}, but the "
                f"run would repeat it as {event}: resume with the same privacy "
                "settings, or start a new run"
            )
        return None
