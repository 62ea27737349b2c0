"""Parts of experiments that do not go together, and what is said of them."""

from __future__ import annotations

import pytest

from tfl_research.aggregators import (
    TrustedRoot,
)
from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment, compatibility
from tfl_research.experiment.configs import (
    Cohorts,
    Devices,
    RecordLevelPrivacy,
    SecureSums,
    UserLevelPrivacy,
    Weighting,
)

UNIFORM, CAPPED = Weighting("uniform"), Weighting("capped", 10)
RECORDS = RecordLevelPrivacy(record_noise_multiplier=1.0)
DEVICES = Devices(50)
SECURE = SecureSums(True)


def noised(mechanism="gaussian", **given):
    return UserLevelPrivacy(mechanism, noise_multiplier=1.0, **given)


def refusal(**parts) -> SettingError:
    experiment = Experiment(**{"task": "heart", **parts})
    with pytest.raises(SettingError) as raised:
        compatibility.check(experiment)
    return raised.value


LOCAL = {"privacy": noised("local_gaussian"), "cohorts": Cohorts("full")}
PRIVATE_DEVICES = {"privacy": noised(), "devices": Devices(9)}

ROOTED = TrustedRoot(root_examples=5)


def cases(refused) -> list[tuple[str, int]]:
    """Rule and number of each case of a table: rule -> [(parts, message)]."""
    return [(rule, n) for rule, them in refused.items() for n in range(len(them))]


def check_refusal(rule: str, parts, message: str) -> None:
    """The experiment is refused in these words, and by this rule."""
    error = refusal(**parts)
    assert error.for_command_line == message
    assert str(error) == message.replace("--", "")
    # The rule itself, and not another one that comes first.
    (function,) = (r for r in compatibility.RULES if r.__name__ == rule)
    with pytest.raises(SettingError) as raised:
        function(Experiment(**{"task": "heart", **parts}))
    assert raised.value.for_command_line == message
