"""Sites in threads, for every test of the federation."""

from __future__ import annotations

import pytest
from fake_sites import Sites


@pytest.fixture
def sites(tmp_path):
    with Sites(tmp_path) as made:
        yield made
