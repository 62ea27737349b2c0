"""The secrets of a run's randomness, which another run can repeat for comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Optional, Union

from tfl_research.data import SeededClients
from tfl_research.experiment.private import record_level, user_level
from tfl_research.experiment.setup import Setup


@dataclasses.dataclass(frozen=True)
class Draws:
    """The secrets from which a run draws its noise and its secret local steps.

    Attributes:
      key: the key of the noise that the server adds (`storage.Attempts.key`).
      site_seeds: the seed of each client's own draws, by client, if sites have secrets
        of their own; empty if the clients' draws come from the key.
    """

    key: int = dataclasses.field(repr=False)
    site_seeds: Mapping[str, int] = dataclasses.field(default_factory=dict, repr=False)

    def cohort_seed(self, setup: Setup) -> Optional[int]:
        """Returns the seed of the local steps; None for the public seed."""
        if setup.record_level is None:
            return None
        return record_level.secret_cohort_seed(self.key)

    @property
    def client_secrets(self) -> Union[int, Mapping[str, int]]:
        """The seed of the clients' secrets, or seeds by client for sites."""
        return self.site_seeds or user_level.client_secret(self.key)

    def applied_to(self, setup: Setup) -> Setup:
        """Returns the setup with local steps that are drawn from the sites' seeds."""
        if not self.site_seeds or setup.record_level is None:
            return setup
        train = SeededClients.of(setup.task.train, self.site_seeds)
        task = dataclasses.replace(setup.task, train=train)
        return dataclasses.replace(setup, task=task)
