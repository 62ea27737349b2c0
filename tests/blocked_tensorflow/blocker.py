"""Refuses to import TensorFlow, and notes each attempt in a file."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Callable, NoReturn, Optional

_BLOCKED = "tensorflow"


class Blocker(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """An import hook that finds TensorFlow, and refuses when it is to be executed.

    A question whether TensorFlow is installed (`importlib.util.find_spec`) is no
    attempt.

    Attributes:
      attempts: The file that becomes one byte longer at each attempt.
      refuse: Is called at each attempt, and must raise.
    """

    def __init__(self, attempts: str, refuse: Callable[[], NoReturn]) -> None:
        self.attempts = attempts
        self.refuse = refuse

    def install(self) -> None:
        """Asks this hook before all others."""
        sys.meta_path.insert(0, self)

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]] = None,
        target: Optional[types.ModuleType] = None,
    ) -> Optional[importlib.machinery.ModuleSpec]:
        """The specification of TensorFlow; None for every other module."""
        if fullname != _BLOCKED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: types.ModuleType) -> None:
        """Notes the attempt and refuses."""
        with open(self.attempts, "ab") as file:
            file.write(b".")
        self.refuse()
