"""The durable record of what a run spent: one line for each round, written ahead.

Lines are those of a hash chain and none carries a time, so that a run that was
killed and resumed has the same ledger, byte for byte, as one that was not.
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
    """A ledger has events of a plugin that was not given."""

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
        """Opens a ledger, creating it when there is none.

        A last line without its line end is what a kill leaves behind in the middle
        of a write: it is dropped with a warning (its round was never computed).

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
        """Puts a round on disk; returns at once when it is there already.

        Raises:
          ValueError: the round is there with another event, or a round before it
            is missing, or a mechanism over all rounds would change in mid-run.
        """
        if is_recorded(f"{self.path}", self._events, round_number, event):
            return
        self._chain.append({"round": round_number, **event_fields(event)})
        self._events.append(event)


def event_fields(event: Event) -> dict[str, Any]:
    """What a line says of its event: "event", and "plugin" if one registered it."""
    plugin = events.plugin_of(event)
    fields: dict[str, Any] = {"event": event.to_dict()}
    return fields if plugin is None else {**fields, "plugin": plugin}


def is_recorded(
    where: str, recorded: Sequence[Event], round_number: int, event: Event
) -> bool:
    """Whether a run's round is there; False where it is the next one.

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
        held = recorded[round_number - 1]
        if held != event:
            raise ValueError(
                f"{where} has round {round_number} as {held}, but the run would repeat "
                f"it as {event}: resume with the same privacy settings, or start a new "
                "run"
            )
        return True
    if recorded and recorded[-1] != event:
        for one in (recorded[-1], event):
            if not one.composes_by_round:
                raise ValueError(
                    f"{where} has {recorded[-1]} up to round {round_number - 1}, and "
                    f"round {round_number} would be {event}: a {one.kind} mechanism "
                    "cannot begin or end in mid-run; start a new run"
                )
    return False


def parse_rounds(chain: HashChain, *, repair: bool) -> list[Event]:
    """The events of a run's whole ledger; see `HashChain.read`.

    Raises:
      MissingPluginError: see `parse_event`.
      ValueError: see `HashChain.read`.
    """
    found: list[Event] = []
    for fields in chain.read(repair=repair):
        where = f"{chain.path}, line {len(found) + 1}"
        event = parse_event(where, fields, {"round"})
        if fields["round"] != len(found) + 1:
            raise ValueError(f"{where}: is round {fields['round']}, not the next one")
        # Equal rounds share one object.
        found.append(found[-1] if found and found[-1] == event else event)
    return found


def parse_event(where: str, fields: Mapping[str, Any], others: set[str]) -> Event:
    """The event of a line that holds "event" and the `others`.

    Raises:
      MissingPluginError: an event whose kind a plugin registers that was not given.
      ValueError: other fields, or an impossible event; begins with `where`.
    """
    expected = {"event", *others}
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
