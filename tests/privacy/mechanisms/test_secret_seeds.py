"""Nothing that a mechanism makes shows the seed of its noise when it is printed."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

import pytest

from tfl_research import privacy
from tfl_research.privacy import mechanisms
from tfl_research.privacy.mechanisms.catalogue.run_context import MechanismContext

SEED = 918273645546372819


def holders() -> list[type]:
    """The dataclasses of the mechanisms that hold a seed of noise."""
    found = set()
    for module in pkgutil.walk_packages(mechanisms.__path__, mechanisms.__name__ + "."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and dataclasses.is_dataclass(value):
                names = {field.name for field in dataclasses.fields(value)}
                found |= {value} if "noise_seed" in names else set()
    return sorted(found, key=lambda each: each.__name__)


def test_holders_are_found() -> None:
    assert len(holders()) >= 5


@pytest.mark.parametrize("holder", holders(), ids=lambda each: each.__name__)
def test_no_class_shows_it(holder: type) -> None:
    (field,) = (f for f in dataclasses.fields(holder) if f.name == "noise_seed")
    assert not field.repr


def test_it_is_in_no_text() -> None:
    made = [
        privacy.gaussian_aggregator(
            l2_norm_clip=1.0,
            noise_multiplier=1.0,
            expected_cohort_size=5,
            noise_seed=SEED,
        ),
        privacy.local_gaussian_aggregator(
            l2_norm_clip=1.0,
            noise_multiplier=1.0,
            expected_cohort_size=5,
            noise_seed=SEED,
        ),
        MechanismContext(noise_seed=SEED),
    ]
    for each in made:
        assert each.noise_seed == SEED
        assert str(SEED) not in f"{each!r} {each}"
