"""Tests the noise that an aggregator adds, by looking at its releases."""

from __future__ import annotations

import collections
import contextlib
import math
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from scipy import stats

from tfl_research.errors import SettingError
from tfl_research.privacy.plans import plan as plan_module

if TYPE_CHECKING:
    from tfl_research.privacy.plans.user_level import Mechanism

# The probability that a sound mechanism is refused by mistake.
FALSE_ALARM = 1e-9
# Coordinates of the probe's update; this many show a deviation of about 2% in the noise
# at this rate of false alarms.
COORDINATES = 1 << 16


def stddev_bounds(
    declared: float, coordinates: int, false_alarm: float = FALSE_ALARM
) -> tuple[float, float]:
    """Computes bounds of the root mean square of a sample of zero-mean normals.

    Let s be the root mean square of n independent normals of standard deviation σ.
    Then n s²/σ² has a chi-square distribution of n degrees of freedom. Each bound is
    violated with half of the false-alarm rate.

    Args:
      declared: σ, at least 0.
      coordinates: n, at least 1.
      false_alarm: probability that a sound sample is outside, in (0, 1).
    """
    low, high = stats.chi2.isf([1 - false_alarm / 2, false_alarm / 2], coordinates)
    # The upper bound uses p itself, since 1 - p loses digits for small p.
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
      ValueError: the noise is too small or too large; the message names both scales.
    """
    values = np.ravel(np.asarray(sample, np.float64))
    root_mean_square = math.sqrt(float(np.mean(values**2)))
    low, high = stddev_bounds(declared, len(values), false_alarm)
    # Allows for the rounding of float32.
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
    other: Optional[Mechanism] = None,
) -> float:
    """Runs a few rounds of made-up updates, and tests the noise in their releases.

    An aggregator's measurements only report its noise; this function tests the noise
    itself. It executes the aggregator in this process, on updates of two tensors, which
    takes about a second. The tests are:

    * Two rounds of zeros have the declared noise in both tensors, and the two rounds
      have different noise.
    * The same round has the same noise when it is repeated, since a resumed run
      repeats rounds.
    * One client with a large update moves the result by no more than the clip. Noise
      shares on a grid are not tested in this way, because their sum wraps around.

    The test is for normal noise. Noise with heavier tails is refused by mistake more
    often than with probability `FALSE_ALARM`.

    Args:
      mechanism: the mechanism of a plan, for a run that has not begun: its seed decides
        the noise. A mechanism with a secure sum must be built with a context of
        `secure=False`.
      coordinates: number of scalars in an update; by default the dimension of the
        plan's grid of noise shares, or `COORDINATES`.
      clients: number of clients that send updates; by default 1, or the number that the
        plan's grid needs for a release.
      other: the mechanism of the same plan with another seed. Its noise must differ.
        None skips this comparison.

    Returns:
      The root mean square of the first release.

    Raises:
      SettingError: the noise is too small or too large, is used twice, or its scale is
        not measured; updates are not clipped; or the mechanism does not declare the
        noise of a release.
    """
    plan = mechanism.plan
    name = f"--mechanism={plan.mechanism.NAME}"
    grid = plan.distributed
    if coordinates is None:
        coordinates = COORDINATES if grid is None else grid.dimension
    if clients is None:
        clients = 1 if grid is None else grid.minimum_cohort_size
    with _Rounds(mechanism, coordinates, clients) as rounds:
        start = rounds.engine.initialize()
        state, first, stddev = rounds.do(start, 0)
        _, again, _ = rounds.do(start, 0)
        _, second, _ = rounds.do(state, 1)
        loud = None
        if grid is None:
            size = 1e3 * plan.l2_norm_clip * max(1.0, plan.noise_multiplier)
            _, loud, _ = rounds.do(start, 0, size)
    unlike = [("two rounds", _joined(first), _joined(second))]
    if len(first) > 1:
        unlike.append(("two tensors of an update", first[0], first[1]))
    if other is not None:
        with _Rounds(other, coordinates, clients) as rounds:
            _, elsewhere, _ = rounds.do(rounds.engine.initialize(), 0)
        unlike.append(("two run seeds", _joined(first), _joined(elsewhere)))
    if not np.array_equal(_joined(first), _joined(again)):
        raise SettingError(
            f"{name}: the same round has different noise when it is repeated. A "
            "resumed run repeats rounds, and the second release is not charged; make "
            "the noise a function of context.noise_seed and of the round"
        )
    for what, one, two in unlike:
        if plan.noise_multiplier > 0 and _are_equal(one, two):
            raise SettingError(
                f"{name}: {what} have the same noise, which their difference reveals; "
                "make the noise a function of context.noise_seed, of the round and of "
                "the tensor"
            )
    if loud is not None and plan.noise_multiplier > 0:
        moved = float(np.linalg.norm(_joined(loud) - _joined(first)))
        bound = max(
            plan.l2_norm_clip / plan.expected_cohort_size,
            stddev / plan.noise_multiplier,
        )
        if not moved <= bound * 1.01:
            raise SettingError(
                f"{name}: one client moved the result by {moved:.6g}, and a clip of "
                f"{plan.l2_norm_clip:g} allows {bound:.6g}; clip updates to "
                "plan.l2_norm_clip before they are summed"
            )
    return math.sqrt(float(np.mean(_joined(first) ** 2)))


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts)


def _are_equal(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether two samples are equal, or each other's negative, up to rounding."""
    length = min(len(one), len(two))
    one, two = one[:length], two[:length]
    size = float(np.linalg.norm(one))
    distances = (np.linalg.norm(one - two), np.linalg.norm(one + two))
    # A few coordinates of a grid can agree by chance.
    return length >= 16 and size > 0 and float(min(distances)) < 1e-3 * size


class _Rounds:
    """Executes rounds of an aggregator on made-up updates, in this process."""

    def __init__(self, mechanism: Mechanism, coordinates: int, clients: int):
        import tensorflow_federated as tff

        from tfl_research.aggregators.contract import declarations
        from tfl_research.privacy.mechanisms.noise import client_seeds

        self._plan = plan = mechanism.plan
        self._members = declarations(mechanism.aggregator).client_members
        self._clients = clients
        self._stack = contextlib.ExitStack()
        half = coordinates // 2
        self._sizes = [half, coordinates - half] if half else [coordinates]
        value_type = tff.StructWithPythonType(
            [(None, tff.TensorType(np.float32, [size])) for size in self._sizes], tuple
        )
        weight_type: Any = tff.TensorType(np.float32)
        if self._members:
            if self._members != ("seed",):
                raise SettingError(
                    f"--mechanism={plan.mechanism.NAME}: its aggregator needs the "
                    f"clients' {' and '.join(self._members)}, but a probe has only "
                    "made-up updates; give a mechanism whose aggregator needs updates "
                    "alone"
                )
            weight_type = client_seeds.seeded_weight_type()
        self._process = _iterative(mechanism.aggregator.create(value_type, weight_type))

    def __enter__(self) -> _Rounds:
        from tfl_research import runtime

        mode = runtime.Mode("folded", "graph")
        self.engine = self._stack.enter_context(
            runtime.in_process(self._process, mode=mode)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def do(
        self, state: Any, round_number: int, size: float = 0.0
    ) -> tuple[Any, list[np.ndarray], float]:
        """Executes a round: one client's update has the given l2 norm, others are zero.

        Returns:
          The next state, the release of each tensor, float64, and the declared standard
          deviation of the noise.

        Raises:
          SettingError: the mechanism declares no noise, or `size` is 0 and the release
            does not fit the declared noise.
        """
        plan, name = self._plan, f"--mechanism={self._plan.mechanism.NAME}"
        entry = np.float32(size / math.sqrt(sum(self._sizes)))
        cohort = []
        for number in range(self._clients):
            weight: Any = np.float32(1.0)
            if self._members:
                seed = np.array([number, 7 + round_number], np.int32)
                weight = collections.OrderedDict(weight=weight, seed=seed)
            filled = entry if number == 0 else np.float32(0.0)
            value = tuple(np.full(n, filled, np.float32) for n in self._sizes)
            cohort.append(collections.OrderedDict(value=value, weight=weight))
        state, output = self.engine.next(state, cohort)
        measurements = output["measurements"]
        plan.check_measured({"aggregator": measurements})
        declared = plan.mechanism.declared_noise(
            plan, plan_module.measured_scalars(measurements)
        )
        if "noise_stddev" not in declared:
            raise SettingError(
                f"{name}: declares no noise_stddev, so the noise of a release cannot "
                "be judged; let its declared_noise have noise_stddev"
            )
        stddev = declared["noise_stddev"]
        parts = [np.ravel(part).astype(np.float64) for part in output["result"]]
        if not size:
            self._check(parts, stddev)
        return state, parts, stddev

    def _check(self, parts: list[np.ndarray], stddev: float) -> None:
        # The joined sample comes first, because its bounds are the tightest.
        samples = [_joined(parts), *parts] if len(parts) > 1 else parts
        for sample in samples:
            try:
                check_sample(sample, stddev)
            except ValueError as error:
                raise SettingError(
                    f"--mechanism={self._plan.mechanism.NAME}: {error}: the noise that "
                    "is added is not the noise that is charged"
                ) from error


def _iterative(process: Any) -> Any:
    """Makes a process in which a client's value is the pair of update and weight."""
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
