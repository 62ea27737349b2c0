"""Baselines of federation: one silo alone, or the pooled data of all silos."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from tfl_research import settings
from tfl_research.data import client_splits
from tfl_research.settings import Settings
from tfl_research.tasks import Task


@dataclasses.dataclass(frozen=True)
class Baseline(Settings):
    """Training without federation, on one silo's examples or on everybody's.

    Example:
      >>> tfl.Experiment("heart", baseline=tfl.Baseline("pooled")).check()
      >>> tfl.Experiment("heart", baseline=tfl.Baseline("Cleveland")).check()
      >>> tfl.Experiment("heart", baseline=tfl.Baseline("Paris")).check()
      Traceback (most recent call last):
          ...
      tfl_research.errors.SettingError: train_on=Paris: there is no such silo; give
      pooled or one of Cleveland, Hungary, Switzerland, VA Long Beach
    """

    TITLE: ClassVar[str] = "Baseline"

    train_on: Optional[str] = settings.text(
        None,
        "The data to train on: the name of a silo, for this silo's data alone; or "
        "pooled, for the data of all silos together. When not given, training is "
        "federated.",
    )

    def applied_to(self, task: Task) -> Task:
        """Returns the task with this training data as its only client.

        Raises:
          SettingError: the task has no such silo.
        """
        if self.train_on is None:
            return task
        known = task.train.client_ids
        if self.train_on == client_splits.POOLED:
            pooled = client_splits.pooled(task.train)
            return dataclasses.replace(task, train=pooled)
        if self.train_on not in known:
            raise self.refused(
                "train_on",
                f"there is no such silo; give pooled or one of {', '.join(known)}",
            )
        return dataclasses.replace(task, train=task.train.subset([self.train_on]))
