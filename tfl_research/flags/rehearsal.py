"""Experiments that are run only up to where all of their flags are checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_rehearsing: list[bool] = []


class _Checked(Exception):
    """Ends a rehearsal; no error."""


@contextlib.contextmanager
def rehearsal() -> Iterator[None]:
    """Ends its body, quietly, at the first `everything_is_checked`."""
    _rehearsing.append(True)
    try:
        yield
    except _Checked:
        return
    finally:
        _rehearsing.pop()


def everything_is_checked() -> None:
    """To be called before an experiment writes anything or begins to train."""
    if _rehearsing:
        raise _Checked
