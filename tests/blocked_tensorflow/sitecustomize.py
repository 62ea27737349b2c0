"""Refuses TensorFlow in a Python that a test starts: tests/without_tensorflow.py.

Python imports a module of this name when it starts. This folder is on PYTHONPATH
while tests run with TFL_WITHOUT_TENSORFLOW=1, and at no other time.
"""

import os
from typing import NoReturn

import blocker


def _end() -> NoReturn:
    raise SystemExit(75)


if "TFL_TENSORFLOW_ATTEMPTS" in os.environ:
    blocker.Blocker(os.environ["TFL_TENSORFLOW_ATTEMPTS"], _end).install()
