"""An experiment as flat settings: records and command lines; no TensorFlow."""

from __future__ import annotations

import dataclasses

import pytest
from flat_parts import HEART, PARTS, check_round_trip

from tfl_research import settings
from tfl_research.aggregators import (
    AGGREGATORS,
)
from tfl_research.algorithms import ALGORITHMS
from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import (
    UserLevelPrivacy,
)
from tfl_research.models.optimizers import (
    SGD,
    Adagrad,
    Adam,
    ClientOptimizer,
    ServerOptimizer,
    Yogi,
)
from tfl_research.privacy import MECHANISMS
from tfl_research.settings import declared, kind_of

# Parameters whose values are not any number of their kind.
GIVEN = {
    "trim": 2,
    "byzantine": 1,
    "root_examples": 5,
    "scaffold_option": 1,
    "on_breakdown": "skip",
    "modulus_bits": 18,
}


def other_value(field):
    """A value of a setting that is not its default."""
    kind = kind_of(field)
    if field.name in GIVEN:
        return GIVEN[field.name]
    if isinstance(kind, settings.Switch):
        return not field.default
    return 3 if kind.syntax == "integer" else 0.25


def with_other_values(chosen):
    """A choice all of whose parameters have values of their own."""
    fields = declared(chosen)
    found = chosen(**{field.name: other_value(field) for field in fields})
    for field in fields:
        assert getattr(found, field.name) != field.default
    return found


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_every_algorithm(name):
    chosen = with_other_values(ALGORITHMS.get(name))
    flat = check_round_trip(Experiment("heart", algorithm=chosen))
    assert flat["algorithm"] == name
    assert chosen.flat().items() <= flat.items()
    check_round_trip(Experiment("heart", algorithm=name))


@pytest.mark.parametrize("name", AGGREGATORS.names())
def test_every_aggregator(name):
    chosen = with_other_values(AGGREGATORS.get(name))
    flat = check_round_trip(Experiment("heart", aggregator=chosen))
    assert flat["aggregator"] == name
    assert chosen.flat().items() <= flat.items()


@pytest.mark.parametrize("name", MECHANISMS.names())
def test_every_mechanism(name):
    chosen = with_other_values(MECHANISMS.get(name))
    privacy = UserLevelPrivacy(
        chosen,
        l2_norm_clip=0.5,
        target_epsilon=3,
        delta=1e-4,
        budget_epsilon=4,
        accountant="rdp",
        ledger="l",
    )
    flat = check_round_trip(Experiment("heart", privacy=privacy))
    assert (flat["mechanism"], flat["privacy_unit"]) == (name, "client")
    assert chosen.flat().items() <= flat.items()
    default = UserLevelPrivacy(name, noise_multiplier=0.0)
    assert check_round_trip(Experiment("heart", privacy=default))["mechanism"] == name


@pytest.mark.parametrize("part", PARTS)
def test_every_part(part):
    own = PARTS[part]
    plain = HEART
    flat = check_round_trip(dataclasses.replace(plain, **{part: own}))
    if isinstance(own, settings.Settings):
        assert own.flat().items() <= flat.items()
    # Nothing but the part's own settings differs.
    changed = {k for k, v in flat.items() if plain.flat().get(k, "none") != v}
    if part == "personal_evaluation":
        assert changed == {"personal_evaluation"}
    else:
        follows = {"privacy": {"privacy_unit", "sampler"}, "audit": {"audit"}}
        assert changed <= {*own.flat(), *follows.get(part, set())}
        assert len(changed) >= 1


def test_all_parts_at_once():
    flat = check_round_trip(Experiment(**PARTS, name="all"))
    for own in PARTS.values():
        if isinstance(own, settings.Settings):
            assert own.flat().items() <= flat.items()


def test_what_is_left_out_has_its_default():
    assert Experiment.from_flat({"task": "heart"}, name="experiment") == HEART
    given = {"task": "heart", "algorithm": None, "client_weight": (), "rounds": None}
    assert Experiment.from_flat(given) == HEART


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "--task is missing; give one of shakespeare, "),
        ({"task": "heart", "round": 3}, "--round: there is no such setting"),
        ({"task": "heart", "side": None}, "--side: there is no such setting"),
        (
            {"task": "heart", "privacy_unit": "silo"},
            "--privacy_unit=silo: must be client, record or None",
        ),
        (
            {"task": "heart", "privacy_unit": []},
            "--privacy_unit=[]: must be client, record or None",
        ),
        (
            {"task": "heart", "privacy_unit": "client"},
            "--noise_multiplier or --target_epsilon is missing; give one of them",
        ),
        (
            {"task": "heart", "noise_multiplier": 1.0},
            "--noise_multiplier=1.0: goes with --privacy_unit=client; leave it out",
        ),
        (
            {"task": "heart", "mechanism": "tree"},
            "--mechanism=tree: goes with --privacy_unit=client; leave it out",
        ),
        (
            {"task": "heart", "restart_every": 4},
            "--restart_every=4: goes with --privacy_unit=client; leave it out",
        ),
        (
            {"task": "heart", "privacy_unit": "client", "record_delta": 0.1},
            "--record_delta=0.1: goes with --privacy_unit=record; leave it out",
        ),
        (
            {"task": "heart", "privacy_unit": "record", "l2_norm_clip": 2},
            "--l2_norm_clip=2: goes with --privacy_unit=client; leave it out",
        ),
        (
            {"task": "heart", "canaries": 20},
            "--canaries=20: goes with --audit; leave it out",
        ),
        (
            {"task": "heart", "audit": False, "sabotage": "noise_off"},
            "--sabotage=noise_off: goes with --audit; leave it out",
        ),
        ({"task": "heart", "audit": "no"}, "--audit=no: must be True or False"),
        (
            {"task": "heart", "personal_evaluation": 1},
            "--personal_evaluation=1: must be True or False",
        ),
        (
            {"task": "heart", "dyn_alpha": 1},
            "--dyn_alpha=1: goes with --algorithm=fed_dyn, not with fed_avg; leave it "
            "out",
        ),
        (
            {"task": "heart", "byzantine": 1},
            "--byzantine=1: goes with --aggregator=centered_clipping, norm_clipping, "
            "coordinate_median, ",
        ),
    ],
)
def test_flat_settings_that_are_refused(values, message):
    with pytest.raises(SettingError) as raised:
        Experiment.from_flat(values)
    assert raised.value.for_command_line.startswith(message)
    assert str(raised.value).startswith(message.replace("--", ""))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (SGD(0.5, momentum=0.25), ClientOptimizer("sgd", 0.5, 0.25)),
        (Adam(0.5, epsilon=0.1), ClientOptimizer("adam", 0.5, epsilon=0.1)),
        (Yogi(0.5), ClientOptimizer("yogi", 0.5)),
        (Adagrad(0.5), ClientOptimizer("adagrad", 0.5)),
        (ClientOptimizer(gradient_clip=2), ClientOptimizer(gradient_clip=2)),
    ],
)
def test_optimizers_are_the_clients_or_the_servers(given, found):
    experiment = Experiment("heart", client_optimizer=given)
    assert experiment.client_optimizer == experiment.clients == found
    assert type(experiment.client_optimizer) is ClientOptimizer
    on_server = Experiment("heart", server_optimizer=SGD(0.5)).server_optimizer
    assert on_server == ServerOptimizer("sgd", 0.5)
