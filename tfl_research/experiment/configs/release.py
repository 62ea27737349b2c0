"""Settings for the outputs of a private run in addition to the noised updates."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from tfl_research import settings
from tfl_research.settings import Settings


@dataclasses.dataclass(frozen=True)
class Release(Settings):
    """The outputs of a private run beside its noised updates, and their cost.

    Example:
      >>> release = tfl.Release(withhold_exact=True)
      >>> experiment = tfl.Experiment(
      ...     "heart",
      ...     cohorts=tfl.Cohorts("full"),
      ...     privacy=tfl.UserLevelPrivacy(noise_multiplier=1),
      ...     release=release,
      ... )
      >>> experiment.check()
    """

    TITLE: ClassVar[str] = "What leaves a private run"

    public_schema: bool = settings.switch(
        False,
        "Declare public what the task computes from the clients' pooled rows: scales, "
        "categories, classes, a vocabulary. Without this flag a private run refuses "
        "such a task, unless the task's data are public.",
    )
    release_exact: tuple[str, ...] = settings.repeated(
        "Release this output although ε does not cover it: a column of metrics.csv, or "
        "a file. On data that are not public, a private run otherwise withholds such "
        "outputs. May be repeated; 'all' releases every such output."
    )
    withhold_exact: bool = settings.switch(
        False,
        "Withhold every output that ε does not cover, also for a task whose data are "
        "public.",
    )
    evaluation_noise_multiplier: Optional[float] = settings.real(
        None,
        "Noise multiplier of the private evaluation on the training clients' test "
        "examples. The accuracy of each evaluation gets Gaussian noise, which is "
        "charged. No private evaluation when not given.",
        above=0,
    )
    selection_epsilon: Optional[float] = settings.real(
        None,
        "ε of the private choice of the best model (exponential mechanism) on the "
        "training clients' test examples. It is charged once. No private choice when "
        "not given.",
        above=0,
    )

    def check(self) -> None:
        if self.withhold_exact and self.release_exact:
            raise self.refused(
                "withhold_exact",
                f"also withholds --release_exact={self.release_exact[0]}; give one of "
                "the two",
            )

    def check_without_privacy(self) -> None:
        """Refuses settings that have no effect in a run without privacy.

        Raises:
          SettingError: a setting has no effect; the message names the first such one.
        """
        for name in (
            "release_exact",
            "withhold_exact",
            "evaluation_noise_multiplier",
            "selection_epsilon",
        ):
            if getattr(self, name):
                raise self.refused(
                    name, "goes with user-level or record-level privacy; leave it out"
                )
