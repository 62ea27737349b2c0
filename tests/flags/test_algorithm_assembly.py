"""What the flags of algorithms and of codes become, each of them at its place."""

from __future__ import annotations

import contextlib

import pytest
from absl import flags as absl_flags

from tfl_research import clients
from tfl_research.flags import (
    AlgorithmFlags,
    CompressionFlags,
    algorithm_assembly,
    app,
    assembly,
)
from tfl_research.processes import OptimizerStep


@pytest.fixture(scope="module")
def parts():
    """Of heart, whose model has one layer: its parts are not built here."""
    found = []
    arguments = ["experiment", "--output_dir=unused", "--task=heart", "--seed=3"]
    arguments += ["--client_learning_rate=0.25", "--server_learning_rate=0.75"]
    with contextlib.ExitStack() as stack:
        stack.callback(absl_flags.FLAGS.unparse_flags)
        code = app.execute(
            lambda: found.append(assembly.setup()), assembly.GROUPS, "", arguments
        )
    assert code == 0
    return found[0]


def attribute(found, path):
    for name in path.split("."):
        found = getattr(found, name)
    return found


# Algorithm, flags, and attributes of what is built.
BUILT = [
    ("fed_avg", {}, {"client_work.proximal_strength": 0.0}),
    ("fed_prox", {}, {"client_work.proximal_strength": 0.1}),
    (
        "fed_prox",
        {"proximal_strength": 0.0},
        {"client_work.proximal_strength": 0.0},
    ),
    ("adaptive_prox", {}, {"server_work.initial": 0.0}),
    ("adaptive_prox", {"proximal_strength": 0.3}, {"server_work.initial": 0.3}),
    ("scaffold", {}, {"client_work.option": 2, "server_work.population": 4}),
    ("scaffold", {"scaffold_option": 1}, {"client_work.option": 1}),
    ("fed_dyn", {}, {"client_work.alpha": 0.1, "server_work.alpha": 0.1}),
    (
        "fed_dyn",
        {"dyn_alpha": 0.4},
        {
            "client_work.alpha": 0.4,
            "server_work.alpha": 0.4,
            "server_work.population": 4,
        },
    ),
    ("fed_dropout", {}, {"client_work.sub_models.share": 0.5}),
    ("fed_dropout", {"kept_units": 0.2}, {"client_work.sub_models.share": 0.2}),
    ("fed_nova", {}, {"client_work.proximal_strength": 0.0}),
    ("fed_nova", {"proximal_strength": 2.0}, {"client_work.proximal_strength": 2.0}),
    ("fed_exp", {}, {"server_work.epsilon": 1e-3, "server_work.averages": False}),
    (
        "fed_exp",
        {"exp_epsilon": 0.5, "exp_average": True},
        {"server_work.epsilon": 0.5, "server_work.averages": True},
    ),
    ("mime_lite", {}, {"server_work.corrects": False}),
    ("mime", {}, {"server_work.corrects": True, "exchanges": 2}),
    ("fed_buff", {}, {"server_work.max_staleness": 10}),
    ("fed_buff", {"max_staleness": 0}, {"server_work.max_staleness": 0}),
    ("ditto", {}, {"client_work.strength": 1.0}),
    ("ditto", {"personal_strength": 0.0}, {"client_work.strength": 0.0}),
    (
        "fed_rep",
        {},
        {"client_work.part.tensors": 2, "client_work.part.share": 0.5},
    ),
    (
        "fed_rep",
        {"personal_tensors": 1, "personal_share": 0.3},
        {"client_work.part.tensors": 1, "client_work.part.share": 0.3},
    ),
    (
        "reconstruction",
        {"personal_tensors": 1, "personal_share": 0.3},
        {"client_work.part.tensors": 1, "client_work.part.share": 0.3},
    ),
    ("ifca", {}, {"client_work.clusters": 2}),
    ("ifca", {"clusters": 3}, {"client_work.clusters": 3}),
]


@pytest.mark.parametrize(("name", "given", "expected"), BUILT)
def test_every_flag_is_heard(parts, name, given, expected):
    chosen = AlgorithmFlags(algorithm=name, **given)
    chosen.check()
    built = algorithm_assembly.algorithm(chosen, parts)
    assert {path: attribute(built, path) for path in expected} == expected


def learning_rate(optimizer):
    (rate,) = optimizer.get_hparams(optimizer.initialize(())).values()
    return float(rate)


@pytest.mark.parametrize("name", sorted({name for name, *_ in BUILT}))
def test_both_optimizers_are_those_of_the_flags(parts, name):
    built = algorithm_assembly.algorithm(AlgorithmFlags(algorithm=name), parts)
    work = getattr(built.client_work, "base", built.client_work)
    assert learning_rate(work.steps.optimizer) == 0.25
    # The others have a step of their own, and refuse the flags.
    if name not in ("fed_dyn", "fed_exp", "ifca"):
        server = built.server_work
        step = server if isinstance(server, OptimizerStep) else server.step
        assert learning_rate(step.optimizer) == 0.75


@pytest.mark.parametrize(
    ("given", "code", "feeds_back"),
    [
        ({"compression": "top_k"}, clients.TopK(0.01), True),
        (
            {"compression": "top_k", "compression_fraction": 0.2},
            clients.TopK(0.2),
            True,
        ),
        (
            {"compression": "top_k", "error_feedback": False},
            clients.TopK(0.01),
            False,
        ),
        # A contraction where what is lost comes later, unbiased where it does not.
        (
            {"compression": "random_k", "compression_fraction": 0.2},
            clients.RandomK(0.2, rescale=False),
            True,
        ),
        (
            {"compression": "random_k", "error_feedback": False},
            clients.RandomK(0.01, rescale=True),
            False,
        ),
        ({"compression": "quantize"}, clients.Quantized(8), False),
        (
            {"compression": "quantize", "compression_bits": 3, "error_feedback": True},
            clients.Quantized(3),
            True,
        ),
        ({"compression": "low_rank"}, clients.LowRank(4), True),
        (
            {"compression": "low_rank", "compression_rank": 2},
            clients.LowRank(2),
            True,
        ),
    ],
)
def test_every_flag_of_a_code_is_heard(parts, given, code, feeds_back):
    base = algorithm_assembly.algorithm(AlgorithmFlags(), parts).client_work
    chosen = CompressionFlags(**given)
    chosen.check()
    found = chosen.wrap(base)
    assert (found.base, found.compressor) == (base, code)
    assert found.error_feedback == feeds_back
    assert hasattr(found, "initial_client_state") == feeds_back
    assert CompressionFlags().wrap(base) is base
