"""A choice that a run makes once, in a file of the run's folder."""

from __future__ import annotations

import hashlib
import hmac
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Optional, TypeVar

from tfl_research import interrupts
from tfl_research.errors import UserError
from tfl_research.storage.files import atomic, json_file

Value = TypeVar("Value")


def keep(path: pathlib.Path, record: Mapping[str, Any], key: bytes = b"") -> None:
    """Writes a choice durably, in a file that only its owner can read.

    The reason for a choice has measured times, which depend on the clients in a round.

    Args:
      path: the file.
      record: the choice, JSON values.
      key: the secret key of the seal.

    Raises:
      Interrupt: a signal came, whose exception may have made the choice.
    """
    interrupts.check()
    content = dict(record)
    # Without a key, the seal only detects damage.
    content["seal"] = _seal(record, key)
    atomic.write(path, (json.dumps(content, indent=1) + "\n").encode(), mode=0o600)


def _seal(record: Mapping[str, Any], key: bytes) -> str:
    text = json.dumps(dict(record), sort_keys=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def kept(
    path: pathlib.Path, read: Callable[[dict[str, Any]], Value], key: bytes = b""
) -> Optional[Value]:
    """Reads a choice; None if the run has not chosen yet.

    Args:
      path: the file.
      read: makes the choice from the record.
      key: the key of the seal, see `keep`.

    Raises:
      UserError: the file has no such choice, or was edited.
    """
    if not path.exists():
        return None
    try:
        record = json_file.read(path)
        seal = record.pop("seal", None)
        # Files of earlier versions have no seal if the run has no key.
        if (key or seal is not None) and seal != _seal(record, key):
            raise ValueError(
                "its seal does not match the run seed" if key else "it was changed"
            )
        return read(record)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(
            f"{path} does not hold a choice of execution ({error}); restore the file, "
            "or start over in another --output_dir"
        ) from error
