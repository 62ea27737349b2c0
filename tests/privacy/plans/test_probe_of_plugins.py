"""What the probe finds in the noise and the clip of a user's own mechanism."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, ClassVar

import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import privacy, registry, sampling
from tfl_research.errors import SettingError
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.plans import probe

AMPLIFICATION = sampling.Full(range(5)).amplification


@dataclasses.dataclass(frozen=True)
class Flawed(privacy.MechanismSettings):
    """Gaussian noise at the server, with a flaw that measurements do not tell."""

    NAME: ClassVar[str] = "flawed"
    SUMMARY: ClassVar[str] = "noise with a flaw"
    SAMPLERS: ClassVar[tuple[str, ...]] = ("full",)

    flaw: str = ""

    def event(self, noise_multiplier: float, shape: Any) -> privacy.Event:
        return privacy.MECHANISMS.resolve("gaussian").event(noise_multiplier, shape)

    def aggregator(self, plan: Any, context: Any) -> Any:
        return _Factory(plan, self.flaw, context.noise_seed)


class _Factory(tff.aggregators.WeightedAggregationFactory):
    def __init__(self, plan: Any, flaw: str, seed: int):
        self._plan, self._flaw = plan, flaw
        self._seed = 1 if flaw == "one seed" else seed % 2**31

    def create(self, value_type: Any, weight_type: Any) -> Any:
        plan, flaw = self._plan, self._flaw
        size = plan.expected_cohort_size
        stddev = plan.noise_multiplier * plan.l2_norm_clip / size

        @tff.tensorflow.computation
        def initial() -> Any:
            return tf.constant([self._seed, 0], tf.int32)

        @tff.tensorflow.computation(value_type)
        def clip(value: Any) -> Any:
            norm = tf.linalg.global_norm(tf.nest.flatten(value))
            factor = tf.minimum(1.0, plan.l2_norm_clip / tf.maximum(norm, 1e-9))
            if flaw == "no clip":
                factor = 1.0
            return tf.nest.map_structure(lambda part: part * factor, value)

        def noise(state: Any, index: int, part: Any) -> Any:
            if flaw == "first tensor" and index:
                return tf.zeros_like(part)
            if flaw == "drawn anew":
                return tf.random.normal(tf.shape(part))
            seed = state + [0, 0 if flaw == "equal tensors" else index]
            return tf.random.stateless_normal(tf.shape(part), seed)

        @tff.tensorflow.computation(initial.type_signature.result, value_type)
        def release(state: Any, total: Any) -> Any:
            parts = tf.nest.flatten(total)
            noised = [
                part / size + stddev * noise(state, index, part)
                for index, part in enumerate(parts)
            ]
            measured = collections.OrderedDict(
                noise_stddev=tf.constant(stddev, tf.float32)
            )
            state = state if flaw == "equal rounds" else state + [0, 1000]
            return state, tf.nest.pack_sequence_as(total, noised), measured

        @tff.federated_computation
        def initialize() -> Any:
            return tff.federated_eval(initial, tff.SERVER)

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_sum(state: Any, value: Any, weight: Any) -> Any:
            total = tff.federated_sum(tff.federated_map(clip, value))
            done = tff.federated_map(release, (state, total))
            return tff.templates.MeasuredProcessOutput(done[0], done[1], done[2])

        return tff.templates.AggregationProcess(initialize, next_sum)


FLAWS = {
    "no clip": "one client moved the result by 400, and a clip of 2 allows 0.4",
    "first tensor": "of noise have a root mean square",
    "equal tensors": "two tensors of an update have the same noise",
    "equal rounds": "two rounds have the same noise",
    "one seed": "two run seeds have the same noise",
    "drawn anew": "the same round has different noise when it is repeated",
}


@pytest.mark.usefixtures("on_a_worker")
@pytest.mark.parametrize("flaw", ["", *FLAWS])
def test_flaws_are_found(flaw):
    with registry.registered(privacy.MECHANISMS, "flawed", Flawed):
        plan = privacy.UserLevelPlan.create(
            Flawed(flaw=flaw),
            l2_norm_clip=2.0,
            amplification=AMPLIFICATION,
            rounds=4,
            noise_multiplier=0.5,
            delta=1e-3,
        )
        built, other = (
            plan.build(privacy.MechanismContext(noise_seed=seed)) for seed in (3, 4)
        )
        assert isinstance(plan.event, GaussianEvent)
        if not flaw:
            # 0.5 · 2 / 5.
            assert probe.probe_noise(built, other=other) == pytest.approx(0.2, rel=0.02)
            return
        with pytest.raises(SettingError, match=FLAWS[flaw]):
            probe.probe_noise(built, other=other)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            lambda noise, shape: GaussianEvent.of(3 * noise, shape.amplification),
            "event has noise of 3 times the clip, but the plan has 1: less would be",
        ),
        (lambda noise, shape: None, "its event is a NoneType; expected a privacy.Ev"),
    ],
)
def test_an_event_that_charges_less_is_refused(event, message):
    cheap = type("Cheap", (Flawed,), {"event": staticmethod(event)})
    with (
        registry.registered(privacy.MECHANISMS, "flawed", cheap),
        pytest.raises(SettingError, match=message),
    ):
        privacy.UserLevelPlan.create(
            cheap(),
            amplification=AMPLIFICATION,
            rounds=1,
            delta=1e-3,
            l2_norm_clip=1.0,
            noise_multiplier=1.0,
        )


@pytest.mark.parametrize("name", ["SAMPLERS", "WEIGHTINGS"])
def test_a_text_for_a_tuple_of_names_is_refused(name):
    """A part of the text would be found in it."""
    kind = type("Texts", (Flawed,), {"NAME": "texts", name: "poisson"})
    with pytest.raises(ValueError, match=f"{name} of Texts must be a tuple of names"):
        privacy.register_mechanism(kind)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("SAMPLERS", ("fixed", "possion"), "has 'possion'; expected names of poisson"),
        ("SAMPLERS", (1,), "has 1; expected names of poisson, fixed, shuffled, full"),
        ("WEIGHTINGS", ("unifrm",), "has 'unifrm'; expected names of uniform, capped"),
    ],
)
def test_a_name_that_no_setting_has_is_refused(name, given, said):
    """A run's refusal of another sampler would advise this name."""
    kind = type("Unknown", (Flawed,), {"NAME": "unknown", name: given})
    with pytest.raises(ValueError, match=f"{name} of Unknown {said}"):
        privacy.register_mechanism(kind)
    assert "unknown" not in privacy.MECHANISMS
