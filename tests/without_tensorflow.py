"""With TFL_WITHOUT_TENSORFLOW=1, every test that imports TensorFlow is skipped.

No list names those tests. An import hook refuses TensorFlow, in the process of the
tests and in every Python that a test starts, and notes the attempt. A test is reported
as skipped if an attempt was noted while it ran. So a test changes sides by itself when
it begins or ceases to need TensorFlow.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections.abc import Generator
from typing import Any, NoReturn, Optional

import pytest
from blocked_tensorflow import blocker

REASON = "needs TensorFlow"
_FOR_CHILDREN = pathlib.Path(blocker.__file__).resolve().parent


def skip() -> NoReturn:
    """Skips the test that runs, or the module that is imported."""
    raise pytest.skip.Exception(REASON, allow_module_level=True)


class WithoutTensorFlow:
    """Blocks TensorFlow when it is made; pytest's plugin that reports the attempts."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp()
        self._attempts = pathlib.Path(self._folder, "attempts")
        self._attempts.touch()
        self._before = 0
        # Fixtures that tests share and that attempted to import TensorFlow.
        self._shared_fixtures: set[Any] = set()
        os.environ["TFL_TENSORFLOW_ATTEMPTS"] = str(self._attempts)
        others = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(_FOR_CHILDREN), *([others] if others else [])]
        )
        blocker.Blocker(str(self._attempts), skip).install()

    def _count(self) -> int:
        return self._attempts.stat().st_size

    def pytest_unconfigure(self) -> None:
        shutil.rmtree(self._folder)

    def pytest_runtest_logstart(self) -> None:
        self._before = self._count()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skips a test whose shared fixture could not be made without TensorFlow."""
        if isinstance(item, pytest.Function):
            by_name = item._fixtureinfo.name2fixturedefs
            if any(
                self._shared_fixtures.intersection(each) for each in by_name.values()
            ):
                skip()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, Any, Any]:
        before = self._count()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function" and self._count() > before:
                self._shared_fixtures.add(fixturedef)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Reports a test during which TensorFlow was refused as skipped."""
        report = yield
        if report.when == "teardown" and report.passed:
            return report
        if self._count() > self._before and not report.skipped:
            report.outcome = "skipped"
            report.longrepr = (str(item.path), 0, f"Skipped: {REASON}")
        return report


def plugin() -> Optional[WithoutTensorFlow]:
    """Blocks TensorFlow and returns the plugin, if the environment asks for it."""
    if not os.environ.get("TFL_WITHOUT_TENSORFLOW"):
        return None
    return WithoutTensorFlow()
