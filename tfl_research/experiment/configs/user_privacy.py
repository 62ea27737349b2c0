"""User-level differential privacy: mechanism, noise, δ, budget and accountant."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Optional, Union

from tfl_research import settings
from tfl_research.errors import SettingError
from tfl_research.privacy import MECHANISMS, MechanismSettings
from tfl_research.privacy.accounting.events import (
    LARGEST_NOISE_MULTIPLIER,
    check_noise_multiplier,
)
from tfl_research.settings import Settings


@dataclasses.dataclass(frozen=True)
class UserLevelPrivacy(Settings):
    """User-level privacy: mechanism, clip, noise, δ, budget and accountant.

    Attributes:
      mechanism: the name of a registered mechanism, or its settings. The settings of
        the toolkit's own mechanisms are in `privacy.mechanisms`.

    Example:
      >>> from tfl_research.privacy import mechanisms
      >>> experiment = tfl.Experiment(
      ...     "mnist",
      ...     cohorts=tfl.Cohorts("poisson", cohort_size=20),
      ...     privacy=tfl.UserLevelPrivacy(l2_norm_clip=0.3, target_epsilon=8),
      ... )
      >>> experiment.check()
      >>> tree = mechanisms.Tree(restart_every=20)
      >>> experiment = tfl.Experiment(
      ...     "mnist",
      ...     cohorts=tfl.Cohorts("min_separation"),
      ...     privacy=tfl.UserLevelPrivacy(tree, noise_multiplier=4),
      ... )
      >>> experiment.check()
    """

    TITLE: ClassVar[str] = "Privacy"

    mechanism: Union[str, MechanismSettings] = "gaussian"
    l2_norm_clip: float = settings.real(
        1.0,
        "Largest l2 norm of an update. adaptive_gaussian starts with this norm.",
        above=0,
    )
    noise_multiplier: Optional[float] = settings.real(
        None,
        "Standard deviation of the noise divided by the largest l2 norm of an update "
        "(for local_gaussian: of each client's own noise). 0 only clips, and ε is "
        "infinite. Give this or --target_epsilon.",
        minimum=0,
        maximum=LARGEST_NOISE_MULTIPLIER,
    )
    target_epsilon: Optional[float] = settings.real(
        None,
        "Choose the noise multiplier so that all --rounds together cost this ε.",
        above=0,
    )
    delta: Optional[float] = settings.real(
        None,
        "δ of the guarantee, which should be below 1/(number of clients). When not "
        "given (number of clients)^-1.1, at most 0.001.",
        above=0,
        below=1,
    )
    budget_epsilon: Optional[float] = settings.real(
        None,
        "Stop before the round that would raise ε above this value. No limit when not "
        "given.",
        above=0,
    )
    accountant: str = settings.choice(
        "auto",
        "pld gives a smaller ε; rdp also covers distributed mechanisms; auto takes "
        "the tightest accountant that applies.",
        ("auto", "pld", "rdp"),
    )
    ledger: Optional[str] = settings.text(
        None,
        "File in which several runs over the same clients record what they spend. "
        "--budget_epsilon then holds for all runs together.",
    )

    def __post_init__(self) -> None:
        chosen = MECHANISMS.resolve(self.mechanism)
        if not isinstance(chosen, MechanismSettings):
            shown = " ".join(f"{type(chosen).__name__} {chosen!r}".split())
            raise SettingError(
                f"mechanism must be a name or MechanismSettings, got {shown:.80}"
            )
        object.__setattr__(self, "mechanism", chosen)
        super().__post_init__()

    @property
    def chosen(self) -> MechanismSettings:
        """The mechanism's settings."""
        if isinstance(self.mechanism, str):
            raise TypeError(f"expected a mechanism's settings, got {self.mechanism!r}")
        return self.mechanism

    def flat(self) -> dict[str, Any]:
        """Returns values by the settings' names, first the mechanism's parameters."""
        chosen = self.chosen
        return {MECHANISMS.setting: chosen.NAME, **chosen.flat(), **super().flat()}

    @classmethod
    def from_flat(
        cls: type[UserLevelPrivacy], values: Mapping[str, Any]
    ) -> UserLevelPrivacy:
        own = {field.name for field in settings.declared(cls)}
        mechanism = MECHANISMS.from_flat({MECHANISMS.setting: "gaussian", **values})
        return cls(mechanism, **{k: v for k, v in values.items() if k in own})

    def check(self) -> None:
        try:
            check_noise_multiplier(self.noise_multiplier or 0.0)
        except ValueError as error:
            raise self.refused("noise_multiplier", str(error)) from error
        given = self.noise_multiplier is not None, self.target_epsilon is not None
        if all(given):
            raise self.refused(
                "target_epsilon",
                "already decides the noise; leave it or --noise_multiplier out",
            )
        if not any(given):
            raise SettingError(
                "--noise_multiplier or --target_epsilon is missing; give one of them"
            )
        if (
            self.target_epsilon is not None
            and self.budget_epsilon is not None
            and self.budget_epsilon < self.target_epsilon
        ):
            raise self.refused(
                "budget_epsilon",
                f"is below --target_epsilon={self.target_epsilon:g}, so the run would "
                "stop early; leave it out or raise it",
            )
