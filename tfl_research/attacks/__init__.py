"""Simulated attacks by malicious clients, who change their data or their updates.

`aggregators.attacked` stacks a cohort's updates for attacks that see all updates.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy
from tfl_research.attacks.catalogue import (
    ATTACKS as ATTACKS,
    DATA as DATA,
    LABEL_FLIPS as LABEL_FLIPS,
    LOCAL as LOCAL,
    OMNISCIENT as OMNISCIENT,
    PERTURBATIONS as PERTURBATIONS,
    UPDATE_ATTACKS as UPDATE_ATTACKS,
    Attack as Attack,
)
from tfl_research.attacks.data_attacks import (
    Trigger as Trigger,
    backdooring as backdooring,
    check_labels as check_labels,
    class_count as class_count,
    flip_labels as flip_labels,
    label_flipping as label_flipping,
    poisoned as poisoned,
    triggered as triggered,
)
from tfl_research.attacks.roles import (
    MALICIOUS as MALICIOUS,
    malicious_clients as malicious_clients,
    malicious_count as malicious_count,
    malicious_in_cohort as malicious_in_cohort,
)

if TYPE_CHECKING:
    from tfl_research.attacks import update_attacks as update_attacks
    from tfl_research.attacks.simulation import (
        AttackedClientWork as AttackedClientWork,
        UpdateAttack as UpdateAttack,
    )
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
