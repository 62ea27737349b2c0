"""A run's ledger: a line on disk for each round, before the round's result is seen.

The lines form a hash chain. They have no times: a run that was killed and resumed has
the same ledger, byte for byte, as an uninterrupted run.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tfl_research.errors import SettingError
from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger.hash_chain import ChainFile, HashChain


class MissingPluginError(SettingError):
    """A ledger has an event whose plugin was not imported."""

    def __init__(self, where: str, kind: Any, plugin: Any):
        if plugin == "__main__":
            super().__init__(
                f"{where}: is of kind {kind!r}, which the program that wrote the line "
                "registers itself; register the event before the ledger is opened, or "
                "put its class into a module and give that with --plugin"
            )
            return
        super().__init__(
            f"{where}: is of kind {kind!r}, which the plugin {plugin} registers; give "
            f"--plugin={plugin} (in Python, import it first)"
        )


class Ledger(ChainFile):
    """Append-only file of the rounds of one run whose noise may have been seen.

    `record` returns only when the round is on disk (fsync), so call it before
    anything that was computed with the round's noise leaves the process. The file
    is locked while it is open: two runs cannot write to one run's ledger (for a
    ledger that several runs share, see `SharedLedger`).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Opens a ledger; creates a missing file.

        A kill in the middle of a write leaves a last line without a line end. That
        line is dropped with a warning, since its round was never computed.

        Raises:
          ValueError: another process has the ledger open, or a line is malformed,
            edited, out of order, or follows a line that was removed; names file
            and line.
        """
        super().__init__(HashChain(path))
        self._events: list[Event] = []
        try:
            try:
                fcntl.flock(self._chain.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ValueError(
                    f"{self.path} is in use by another process: a run's ledger "
                    "belongs to one process at a time"
                ) from error
            self._events = parse_rounds(self._chain, repair=True)
        except BaseException:
            self.close()
            raise

    @property
    def events(self) -> Sequence[Event]:
        """The event of round 1, round 2, ..."""
        return tuple(self._events)

    def __len__(self) -> int:
        """Number of rounds recorded."""
        return len(self._events)

    def __getitem__(self, index: int) -> Event:
        """The event of round `index + 1`."""
        return self._events[index]

    def record(self, round_number: int, event: Event) -> None:
        """Puts a round on disk; returns at once for a round that is recorded already.

        Raises:
          ValueError: the round is recorded with another event, or an earlier round
            is missing, or a mechanism over all rounds would change in mid-run.
        """
        if is_recorded(f"{self.path}", self._events, round_number, event):
            return
        self._chain.append({"round": round_number, **event_fields(event)})
        self._events.append(event)


def event_fields(event: Event) -> dict[str, Any]:
    """A line's fields "event" and, if a plugin registered the event, "plugin"."""
    plugin = events.plugin_of(event)
    fields: dict[str, Any] = {"event": event.to_dict()}
    return fields if plugin is None else {**fields, "plugin": plugin}


def is_recorded(
    where: str, recorded: Sequence[Event], round_number: int, event: Event
) -> bool:
    """Whether a round is recorded already; False for the next round.

    Args:
      where: names the ledger (and the run) in messages.
      recorded: events of the run's rounds 1, 2, ...
      round_number: from 1.
      event: what the round does.

    Raises:
      ValueError: see `Ledger.record`.
    """
    if round_number < 1 or round_number > len(recorded) + 1:
        raise ValueError(
            f"{where} has rounds 1 to {len(recorded)}: round {round_number} cannot be "
            "recorded next"
        )
    if round_number <= len(recorded):
        earlier = recorded[round_number - 1]
        if earlier != event:
            raise ValueError(
                f"{where} has round {round_number} as {earlier}, but the run would "
                f"repeat it as {event}: resume with the same privacy settings, or "
                "start a new run"
            )
        return True
    if recorded and recorded[-1] != event:
        for either in (recorded[-1], event):
            if not either.composes_by_round:
                raise ValueError(
                    f"{where} has {recorded[-1]} up to round {round_number - 1}, and "
                    f"round {round_number} would be {event}: a {either.kind} mechanism "
                    "cannot begin or end in mid-run; start a new run"
                )
    return False


def parse_rounds(chain: HashChain, *, repair: bool) -> list[Event]:
    """The events of a run's whole ledger; see `HashChain.read`.

    Raises:
      MissingPluginError: see `parse_event`.
      ValueError: see `HashChain.read`.
    """
    parsed: list[Event] = []
    for fields in chain.read(repair=repair):
        where = f"{chain.path}, line {len(parsed) + 1}"
        event = parse_event(where, fields, {"round"})
        if fields["round"] != len(parsed) + 1:
            raise ValueError(f"{where}: is round {fields['round']}, not the next one")
        # Equal rounds share one object.
        parsed.append(parsed[-1] if parsed and parsed[-1] == event else event)
    return parsed


def parse_event(where: str, fields: Mapping[str, Any], other_names: set[str]) -> Event:
    """The event of a ledger line.

    Args:
      where: begins the messages; names file and line.
      fields: of the line.
      other_names: the line's fields besides "event" and "plugin".

    Raises:
      MissingPluginError: the plugin that registers the event's kind was not imported.
      ValueError: other fields, or an impossible event.
    """
    expected = {"event", *other_names}
    if set(fields) - {"plugin"} != expected:
        raise ValueError(
            f"{where}: not a ledger line (has {', '.join(fields)}; expected "
            f"{', '.join(sorted(expected))})"
        )
    try:
        return events.event_from_dict(fields["event"])
    except events.UnknownKindError as error:
        if "plugin" not in fields:
            raise ValueError(f"{where}: not a ledger line ({error})") from error
        raise MissingPluginError(where, error.kind, fields["plugin"]) from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: not a ledger line ({error})") from error
