"""A simulated attack: its kind, and the share of malicious clients."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Optional

from tfl_research import attacks, settings
from tfl_research.errors import alternatives
from tfl_research.settings import Settings

NONE = "none"
BACKDOOR_SPLIT = "eval_backdoor"
_SCALED = tuple(n for n, attack in attacks.ATTACKS.items() if attack.scale)
_PERTURBED = ("min_max", "min_sum")
_DEFAULT_FRACTION = 0.2

# Settings that only some attacks have.
_OWNERS: Mapping[str, tuple[str, ...]] = {
    "malicious_fraction": tuple(attacks.ATTACKS),
    "attack_scale": _SCALED,
    "attack_perturbation": _PERTURBED,
    "label_flip": ("label_flip",),
    "backdoor_target": ("backdoor",),
    "backdoor_share": ("backdoor",),
    "backdoor_trigger": ("backdoor",),
    "backdoor_patch_size": ("backdoor",),
    "backdoor_feature": ("backdoor",),
    "backdoor_value": ("backdoor",),
}


def _scales() -> str:
    """Describes --attack_scale and its default, for each attack with a scale."""
    words = []
    for name in _SCALED:
        attack = attacks.ATTACKS[name]
        default = attack.default_scale
        if name == "backdoor":
            shown = "clients per malicious client"
        else:
            shown = "from the cohort" if default is None else f"{default:g}"
        words.append(f"{name}: {attack.scale} ({shown})")
    return "; ".join(words)


@dataclasses.dataclass(frozen=True)
class Attack(Settings):
    """The behaviour of malicious clients in a simulation.

    Example:
      >>> experiment = tfl.Experiment(
      ...     "mnist",
      ...     aggregator="coordinate_median",
      ...     attack=tfl.Attack("sign_flip", malicious_fraction=0.1),
      ... )
      >>> experiment.check()
      >>> tfl.Attack("sign_flip", backdoor_target=3)
      Traceback (most recent call last):
          ...
      tfl_research.errors.SettingError: backdoor_target=3: goes with attack=backdoor...
    """

    TITLE: ClassVar[str] = "Attack (simulation)"

    attack: str = settings.choice(
        NONE,
        "What malicious clients do. label_flip and backdoor change the clients' data. "
        "gaussian, sign_flip and scaled change the client's own update. alie, "
        "inner_product, min_max, min_sum and mimic also see the honest updates of the "
        "round, and need --aggregator=mean or a robust rule. "
        "tfl_research/attacks/catalogue.py has the papers.",
        (NONE, *attacks.ATTACKS),
    )
    malicious_fraction: Optional[float] = settings.real(
        None,
        "Share of the clients that are malicious, rounded to whole clients, which "
        f"--seed draws; {_DEFAULT_FRACTION:g} when not given.",
        above=0,
        maximum=1,
    )
    attack_scale: Optional[float] = settings.real(
        None,
        "Strength of the attack. Its meaning, and its default in parentheses: "
        f"{_scales()}.",
        minimum=0,
    )
    attack_perturbation: Optional[str] = settings.choice(
        None,
        "Direction in which min_max and min_sum leave the honest mean: against the "
        "mean (unit), against its signs, or by minus the standard deviations (std, "
        "the default).",
        attacks.PERTURBATIONS,
    )
    label_flip: Optional[str] = settings.choice(
        None,
        "reverse: class y becomes C - 1 - y (the default); pairwise: class y becomes "
        "y + 1 mod C.",
        attacks.LABEL_FLIPS,
    )
    backdoor_target: Optional[int] = settings.integer(
        None,
        "Class that the backdoored model should give for the trigger; 0 when not "
        "given.",
        minimum=0,
    )
    backdoor_share: Optional[float] = settings.real(
        None,
        "Share of a malicious client's examples that get the trigger and its class; "
        "0.5 when not given.",
        above=0,
        maximum=1,
    )
    backdoor_trigger: Optional[str] = settings.choice(
        None,
        "patch: a square in the lower right corner, the default for images (also for "
        "flat images of square size); feature: one entry of x, the default for other "
        "vectors.",
        ("patch", "feature"),
    )
    backdoor_patch_size: Optional[int] = settings.integer(
        None, "Pixels along the patch's side; 3 when not given.", minimum=1
    )
    backdoor_feature: Optional[int] = settings.integer(
        None, "Index of the feature; 0 when not given.", minimum=0
    )
    backdoor_value: Optional[float] = settings.real(
        None,
        "Value of the trigger's pixels (1 when not given) or of its feature (5 when "
        "not given).",
    )

    def check(self) -> None:
        for field, owners in _OWNERS.items():
            if getattr(self, field) is None or self.attack in owners:
                continue
            if self.attack == NONE:
                raise self.refused(field, "there is no --attack; leave it out")
            named = alternatives(owners)
            raise self.refused(
                field,
                f"goes with --attack={named}, not with {self.attack}; leave it out",
            )
        for field, kind in (
            ("backdoor_patch_size", "patch"),
            ("backdoor_feature", "feature"),
        ):
            given = self.backdoor_trigger
            if getattr(self, field) is not None and given not in (None, kind):
                raise self.refused(
                    field, f"goes with --backdoor_trigger={kind}; leave it out"
                )

    @property
    def is_none(self) -> bool:
        """Whether every client is honest."""
        return self.attack == NONE

    @property
    def kind(self) -> str:
        """The attack's kind, see `attacks.Attack`; "none" without an attack."""
        return NONE if self.is_none else attacks.ATTACKS[self.attack].kind

    @property
    def fraction(self) -> float:
        """The share of malicious clients; 0 without an attack."""
        if self.is_none:
            return 0.0
        given = self.malicious_fraction
        return _DEFAULT_FRACTION if given is None else given

    @property
    def target(self) -> int:
        """The class that the backdoor should cause."""
        return self.backdoor_target or 0
