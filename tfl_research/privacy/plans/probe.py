"""A test of the noise that an aggregator adds, by its releases."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from scipy import stats

from tfl_research.errors import SettingError

if TYPE_CHECKING:
    from tfl_research.privacy.plans.user_level import Mechanism

# The probability that a sound mechanism is refused by mistake.
FALSE_ALARM = 1e-9
# Coordinates of the probe's update; they give the noise to about 2% at this rate.
COORDINATES = 1 << 16


def stddev_bounds(
    declared: float, coordinates: int, false_alarm: float = FALSE_ALARM
) -> tuple[float, float]:
    """The bounds of the root mean square of a sample of zero-mean normals.

    Let s be the root mean square of n independent normals of standard deviation σ.
    Then n s²/σ² has a chi-square distribution of n degrees of freedom. Each bound is
    violated with half of the false-alarm rate.

    Args:
      declared: σ, at least 0.
      coordinates: n, at least 1.
      false_alarm: probability that a sound sample is outside, in (0, 1).
    """
    low, high = stats.chi2.isf([1 - false_alarm / 2, false_alarm / 2], coordinates)
    # 1 - p loses its digits for small p.
    low = stats.chi2.ppf(false_alarm / 2, coordinates)
    return (
        declared * math.sqrt(low / coordinates),
        declared * math.sqrt(high / coordinates),
    )


def check_sample(
    sample: np.ndarray, declared: float, false_alarm: float = FALSE_ALARM
) -> None:
    """Checks that a sample fits zero-mean normals of a standard deviation.

    Args:
      sample: float `[n]`.
      declared: σ of the normals.
      false_alarm: see `stddev_bounds`.

    Raises:
      ValueError: the sample is too small or too large; names both scales.
    """
    values = np.ravel(np.asarray(sample, np.float64))
    root_mean_square = math.sqrt(float(np.mean(values**2)))
    low, high = stddev_bounds(declared, len(values), false_alarm)
    # For the rounding of float32.
    slack = 1e-6 * declared
    if not low - slack <= root_mean_square <= high + slack:
        raise ValueError(
            f"{len(values)} coordinates of noise have a root mean square of "
            f"{root_mean_square:.6g}, but with the declared standard deviation of "
            f"{declared:.6g} it is from {low:.6g} to {high:.6g} except with "
            f"probability {false_alarm:g}"
        )


def probe_noise(
    mechanism: Mechanism,
    *,
    coordinates: Optional[int] = None,
    clients: Optional[int] = None,
) -> float:
    """Runs one round of zero updates and tests the noise in the release.

    An aggregator's measurements only report its noise; this tests the noise itself.
    The aggregator is executed in this process, on a vector of zeros: about a second.
    The test is for normal noise. Noise with heavier tails is refused by mistake more
    often than with probability `FALSE_ALARM`.

    Args:
      mechanism: of a plan, for a run that has not begun: its seed decides the noise.
        A mechanism with a secure sum must be built with a context of `secure=False`.
      coordinates: length of the vector; by default the dimension of the plan's grid of
        noise shares, or `COORDINATES`.
      clients: number of clients that send zeros; by default 1, or as many as the plan's
        grid needs for a release.

    Returns:
      The root mean square of the release.

    Raises:
      SettingError: the noise is too small or too large, its scale is not measured, or
        the mechanism does not declare the noise of a release.
    """
    import tensorflow_federated as tff

    from tfl_research import runtime
    from tfl_research.aggregators.contract import declarations
    from tfl_research.privacy.mechanisms.noise import client_seeds
    from tfl_research.privacy.plans.plan import measured_scalars

    plan, aggregator = mechanism.plan, mechanism.aggregator
    members = declarations(aggregator).client_members
    grid = plan.distributed
    if coordinates is None:
        coordinates = COORDINATES if grid is None else grid.dimension
    if clients is None:
        clients = 1 if grid is None else grid.minimum_cohort_size
    value_type = tff.StructWithPythonType(
        [(None, tff.TensorType(np.float32, [coordinates]))], tuple
    )
    weight_type: Any = tff.TensorType(np.float32)
    if members:
        if members != ("seed",):
            raise SettingError(
                f"--mechanism={plan.mechanism.NAME}: its aggregator needs the clients' "
                f"{' and '.join(members)}, which a probe of zero updates does not have"
            )
        weight_type = client_seeds.seeded_weight_type()
    process = aggregator.create(value_type, weight_type)

    def weight(number: int) -> Any:
        if not members:
            return np.float32(1.0)
        seed = np.array([number, 7], np.int32)
        return collections.OrderedDict(weight=np.float32(1.0), seed=seed)

    zeros = (np.zeros(coordinates, np.float32),)
    cohort = [
        collections.OrderedDict(value=zeros, weight=weight(number))
        for number in range(clients)
    ]
    mode = runtime.Mode("folded", "graph")
    with runtime.in_process(_iterative(process), mode=mode) as engine:
        _, output = engine.next(engine.initialize(), cohort)
    measurements: Mapping[str, Any] = {"aggregator": output["measurements"]}
    plan.check_measured(measurements)
    declared = plan.mechanism.declared_noise(
        plan, measured_scalars(output["measurements"])
    )
    released = np.concatenate([np.ravel(part) for part in output["result"]])
    if "noise_stddev" not in declared:
        raise SettingError(
            f"--mechanism={plan.mechanism.NAME}: declares no noise_stddev, so that the "
            "noise of a release cannot be judged; let its declared_noise have it"
        )
    try:
        check_sample(released, declared["noise_stddev"])
    except ValueError as error:
        raise SettingError(
            f"--mechanism={plan.mechanism.NAME}: {error}: the noise that is added is "
            "not the noise that is charged"
        ) from error
    return math.sqrt(float(np.mean(released.astype(np.float64) ** 2)))


def _iterative(process: Any) -> Any:
    """An aggregation process whose clients hold a value and a weight together."""
    import tensorflow_federated as tff

    _, value, weight = process.next.type_signature.parameter
    client = tff.StructWithPythonType(
        [("value", value.member), ("weight", weight.member)], collections.OrderedDict
    )

    @tff.federated_computation(
        process.initialize.type_signature.result,
        tff.FederatedType(client, tff.CLIENTS),
    )
    def next_round(state: Any, clients: Any) -> Any:
        output = process.next(state, clients["value"], clients["weight"])
        release = collections.OrderedDict(
            result=output.result, measurements=output.measurements
        )
        return output.state, tff.federated_zip(release)

    return tff.templates.IterativeProcess(process.initialize, next_round)
