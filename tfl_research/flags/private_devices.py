"""Simulated devices in a private experiment: paced rounds, and what is refused."""

from __future__ import annotations

import dataclasses
import warnings

from tfl_research import devices
from tfl_research.aggregators import is_noised_at_clients
from tfl_research.flags.assembly import Setup
from tfl_research.flags.declare import FlagError
from tfl_research.flags.device_flags import DeviceFlags
from tfl_research.flags.mechanism_flags import MechanismFlags

_APART = (
    "counts on a client's rounds being kept apart, and --devices are selected as they "
    "are available"
)
_SHARES = (
    "is noised by shares of its clients: a device that is late takes its share along, "
    "and who is late depends on the data"
)
_REFUSED = {
    "tree": _APART,
    "banded_matrix": _APART,
    "discrete_gaussian": _SHARES,
    "skellam": _SHARES,
}


def setup(flags: DeviceFlags, mechanism: MechanismFlags) -> Setup:
    """`DeviceFlags.setup` in rounds whose course tells nothing of data.

    See `devices.PacedRounds`. Warns where more devices than clients hold the
    examples.

    Raises:
      FlagError: see `DeviceFlags.setup`; a mechanism whose account devices break, or
        flags that would let data decide more than a device's own contribution.
    """
    if flags.devices is None:
        return flags.setup()
    name = mechanism.mechanism
    if name in _REFUSED:
        raise FlagError(
            f"--devices={flags.devices}: {name} {_REFUSED[name]}; give "
            "--mechanism=gaussian, or leave --devices out"
        )
    if mechanism.clipped_denominator:
        raise mechanism.refused(
            "clipped_denominator",
            "is analysed for Poisson cohorts, and --devices are selected as they are "
            "available; leave one of them out",
        )
    if flags.over_selection is not None:
        raise flags.refused(
            "over_selection",
            "with privacy a round takes every report that is in time, since the first "
            "ones tell who holds few examples; leave it out and raise --cohort_size",
        )
    if flags.availability_by_label > 0:
        raise flags.refused(
            "availability_by_label",
            "a device's data would decide when it is available, and so who else is "
            "selected, which no noise covers; leave it out",
        )
    parts = flags.setup()
    simulated = parts.sampler
    if not isinstance(simulated, devices.SynchronousRounds):
        raise TypeError(f"expected rounds of devices, got {simulated}")
    rounds = devices.PacedRounds.of(
        simulated,
        every_device_sends=is_noised_at_clients(mechanism.entry.event_kind),
    )
    if shares_examples(rounds):
        warnings.warn(
            f"{flags.devices} devices hold the examples of {owners(rounds)} clients: "
            "the guarantee is of one device, not of a client whose examples several "
            "devices hold",
            stacklevel=2,
        )
    return dataclasses.replace(parts, sampler=rounds)


def statement_lines(parts: Setup) -> tuple[list[str], list[str]]:
    """What a privacy statement says of devices: (notes, outside the guarantee).

    Both are empty where there are none.
    """
    rounds = parts.sampler
    if not isinstance(rounds, devices.PacedRounds):
        return [], []
    sends = (
        "every selected device that is on-line sends, one that is late its noise alone"
        if rounds.every_device_sends
        else "reports that come later, and devices that drop out, contribute nothing"
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
    if not parts.run.withhold_train_metrics:
        columns = "late" if rounds.every_device_sends else "cohort_size, late, bytes_up"
        outside.append(
            "How many devices were in time, which depends on how many examples they "
            f"hold, exactly ({columns} in metrics.csv); --withhold_train_metrics "
            "keeps it out of every output."
        )
    if shares_examples(rounds):
        outside.append(
            f"Clients whose examples several devices hold: {len(rounds.client_ids)} "
            f"devices hold those of {owners(rounds)} clients, and a client here is "
            "one device."
        )
    return notes, outside


def owners(rounds: devices.PacedRounds) -> int:
    """How many clients' examples the devices hold."""
    ids = rounds.client_ids
    found = ids.owners if isinstance(ids, devices.DeviceIds) else None
    return found or len(ids)


def shares_examples(rounds: devices.PacedRounds) -> bool:
    """Whether several devices hold the same client's examples."""
    return owners(rounds) < len(rounds.client_ids)
