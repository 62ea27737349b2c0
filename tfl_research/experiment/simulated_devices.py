"""Simulated devices in an experiment: the clients whose examples they hold, rounds.

In a private experiment, the course of a round must reveal nothing about the data; see
`devices.PacedRounds`.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Optional

import numpy as np

from tfl_research import devices
from tfl_research.data import ClientData
from tfl_research.errors import SettingError
from tfl_research.experiment.configs import Devices, UserLevelPrivacy
from tfl_research.experiment.configs.devices import OVER_SELECTION
from tfl_research.experiment.description import Description
from tfl_research.sampling import Sampler
from tfl_research.tasks import Task


@dataclasses.dataclass(frozen=True)
class Registered:
    """A task whose training clients are registered devices.

    Attributes:
      settings: the settings of the devices.
      task: the task; `train` has a client for each device.
      owners: the clients whose examples the devices hold.
    """

    settings: Devices
    task: Task
    owners: ClientData

    @classmethod
    def of(cls, experiment: Description, task: Task) -> Optional[Registered]:
        """Makes the task with devices; returns None without devices.

        Raises:
          SettingError: availability should depend on the label, but examples have no
            single label.
        """
        settings = experiment.devices
        if settings.devices is None:
            return None
        label = task.train.specs.get("y")
        if settings.availability_by_label > 0 and (label is None or label.shape):
            raise settings.refused(
                "availability_by_label",
                "this task's examples have no single label; leave it out",
            )
        train = devices.registered(task.train, settings.devices)
        return cls(settings, dataclasses.replace(task, train=train), task.train)

    def rounds(self, experiment: Description, asked: Sampler) -> Sampler:
        """Makes the rounds of the devices; a round waits for each client's report.

        A private run in which several devices hold one client's examples gives a
        warning.

        Raises:
          SettingError: the minimum is above the cohort, or there are too few devices.
        """
        settings, seed = self.settings, experiment.training.seed
        size = int(asked.expected_cohort_size)
        if settings.minimum_cohort > size:
            raise settings.refused(
                "minimum_cohort", f"must be at most --cohort_size={size}"
            )
        population = self._population(len(self.task.card.label_names), seed)
        buffering = experiment.chosen_algorithm.buffering
        if buffering is not None:
            concurrency, max_staleness = buffering
            try:
                return devices.BufferedRounds(
                    population,
                    self.task.train,
                    size,
                    seed,
                    drop_out=settings.drop_out,
                    concurrency=concurrency,
                    max_staleness=max_staleness,
                )
            except ValueError as error:
                raise settings.refused("devices", str(error)) from error
        rounds = devices.SynchronousRounds(
            population,
            self.task.train,
            size,
            seed,
            drop_out=settings.drop_out,
            over_selection=settings.over_selection or OVER_SELECTION,
            report_deadline=settings.report_deadline,
            minimum_cohort=settings.minimum_cohort,
            partial_work=settings.partial_work,
        )
        if isinstance(experiment.privacy, UserLevelPrivacy):
            return _paced(rounds, experiment.privacy, settings)
        return rounds

    def _population(self, named_labels: int, seed: int) -> devices.DevicePopulation:
        settings = self.settings
        label = None
        if settings.availability_by_label > 0:
            label = _labels(self.owners, named_labels)
        return devices.DevicePopulation(
            int(settings.devices or 0),
            seed,
            devices.Speeds(
                settings.seconds_per_example,
                settings.download_rate,
                settings.upload_rate,
                settings.speed_spread,
                settings.speed_spread,
            ),
            devices.Availability(
                mean=settings.mean_availability,
                amplitude=settings.diurnal_amplitude,
                label_correlation=settings.availability_by_label,
            ),
            label,
        )


def _paced(
    rounds: devices.SynchronousRounds, privacy: UserLevelPrivacy, settings: Devices
) -> devices.PacedRounds:
    paced = devices.PacedRounds.of(
        rounds, every_device_sends=privacy.chosen.noised_at_clients
    )
    if shares_examples(paced):
        warnings.warn(
            f"{settings.devices} devices hold the examples of {owners(paced)} "
            "clients: the guarantee protects one device, not a client whose examples "
            "several devices hold",
            stacklevel=2,
        )
    return paced


def check_private(settings: Devices, privacy: UserLevelPrivacy) -> None:
    """Refuses devices if a mechanism's event does not cover them.

    Raises:
      SettingError: devices break the mechanism's guarantee, or a device's data would
        affect more than the device's own contribution.
    """
    mechanism = privacy.chosen
    mechanism.check_devices(int(settings.devices or 0))
    if mechanism.flat().get("clipped_denominator"):
        raise SettingError(
            "--clipped_denominator=True: is analysed for Poisson cohorts, but "
            "--devices are selected as they are available; leave one of them out"
        )
    if settings.over_selection is not None:
        raise settings.refused(
            "over_selection",
            "with privacy a round takes every report that is in time, because the "
            "first reports tell who holds few examples; leave it out and raise "
            "--cohort_size",
        )
    if settings.availability_by_label > 0:
        raise settings.refused(
            "availability_by_label",
            "a device's data would decide when it is available, and so who else is "
            "selected, and no noise covers that; leave it out",
        )


def statement_lines(rounds: Sampler) -> tuple[list[str], list[str]]:
    """Writes a statement's sentences about devices: notes, and outside the guarantee.

    Both lists are empty without devices.
    """
    if not isinstance(rounds, devices.PacedRounds):
        return [], []
    sends = (
        "every selected device that is online sends, and a late device sends only its "
        "noise"
        if rounds.every_device_sends
        else "late reports and devices that drop out contribute nothing"
    )
    charged = (
        "Abandoned rounds are charged: what devices sent has been seen."
        if rounds.every_device_sends
        else "Abandoned rounds release nothing, and count neither as charged nor as "
        "done."
    )
    notes = [
        f"Simulated devices: a round selects {rounds.cohort_size} of those available "
        f"and lasts {rounds.report_deadline:g} s, whoever reports; {sends}. It is "
        f"abandoned if fewer than {rounds.minimum_cohort} of the selected could "
        f"report, whatever their data are. {charged}",
    ]
    outside = []
    if shares_examples(rounds):
        outside.append(
            f"Clients whose examples several devices hold: {len(rounds.client_ids)} "
            f"devices hold those of {owners(rounds)} clients, and a client here is "
            "one device."
        )
    return notes, outside


def owners(rounds: devices.PacedRounds) -> int:
    """Counts the clients whose examples the devices hold."""
    ids = rounds.client_ids
    held_by = ids.owners if isinstance(ids, devices.DeviceIds) else None
    return held_by or len(ids)


def shares_examples(rounds: devices.PacedRounds) -> bool:
    """Whether several devices hold the same client's examples."""
    return owners(rounds) < len(rounds.client_ids)


def _labels(clients: ClientData, named: int) -> devices.population.LabelOfDevice:
    """Returns each device's most frequent label: the lowest if tied, 0 if none."""
    count = named or 1 + max(
        (int(held["y"].max()) for _, held in clients.items() if len(held["y"])),
        default=0,
    )

    @functools.cache
    def of_client(index: int) -> int:
        labels = clients.load(clients.client_ids[index])["y"].astype(np.int64)
        return int(np.argmax(np.bincount(labels))) if len(labels) else 0

    def of_device(number: int) -> tuple[int, int]:
        return of_client(number % len(clients.client_ids)), count

    return of_device
