"""A mechanism and an event from a module outside of the package."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow_federated as tff

from tfl_research import privacy, registry, sampling
from tfl_research.cli import privacy_ledger as ledger_cli
from tfl_research.errors import SettingError
from tfl_research.privacy.ledger import spending
from tfl_research.privacy.plans import probe

HERE = pathlib.Path(__file__).parent
# The plugin's module, while it is loaded.
third_party_noise: Any = None
FULL = sampling.Full(range(5)).amplification


@pytest.fixture(scope="module", autouse=True)
def plugin():
    """Loads the plugin for these tests, and leaves no trace of it to others."""
    global third_party_noise
    registry.load_plugin("third_party_noise")
    third_party_noise = sys.modules["third_party_noise"]
    yield
    privacy.MECHANISMS.unregister("pebbles")
    privacy.EVENTS.unregister("pebbles")
    del sys.modules["third_party_noise"]


def plan_of(**changes):
    settings = {"rounds": 8, "noise_multiplier": 4.0, "delta": 1e-3, **changes}
    return privacy.UserLevelPlan.create(
        "pebbles", l2_norm_clip=2.0, amplification=FULL, **settings
    )


@pytest.fixture
def ledger_file(tmp_path):
    """Three rounds, as a run leaves them."""
    with privacy.Ledger(tmp_path / "ledger.jsonl") as ledger:
        account = privacy.RoundAccount(ledger, plan_of())
        for number in (1, 2, 3):
            account.charge(number)
    return tmp_path / "ledger.jsonl"


def test_an_aggregator_without_weights_is_refused(monkeypatch):
    monkeypatch.setattr(
        third_party_noise.Pebbles,
        "aggregator",
        lambda *_: tff.aggregators.SumFactory(),
    )
    with pytest.raises(SettingError) as raised:
        plan_of().build(privacy.MechanismContext(noise_seed=1))
    assert str(raised.value).startswith(
        "mechanism=pebbles: its aggregator is a SumFactory; expected a "
        "tff.aggregators.WeightedAggregationFactory"
    )


def epsilon(rounds, noise):
    """ε of ρ = rounds/z² by the conversion of all events."""
    return privacy.EpsilonCurve(
        third_party_noise.PebbleEvent(noise, 5), 1e-3, "rdp"
    ).at(rounds)


def test_the_plan_is_the_mechanisms():
    plan = plan_of()
    assert plan.event == third_party_noise.PebbleEvent(4.0, 5)
    assert plan.accountant == "rdp"
    assert plan.record()["mechanism"] == {"name": "pebbles", "roughness": 0.5}
    calibrated = plan_of(noise_multiplier=None, target_epsilon=2.0).noise_multiplier
    assert epsilon(8, calibrated) <= 2 < epsilon(8, calibrated - 1e-3)
    with pytest.raises(SettingError, match="roughness=0: must be a number, above 0"):
        third_party_noise.Pebbles(roughness=0)
    with pytest.raises(SettingError, match="goes with mechanism=pebbles, not"):
        privacy.MECHANISMS.from_flat({"mechanism": "tree", "roughness": 0.3})
    assert privacy.MECHANISMS.origin("pebbles") == "third_party_noise"
    assert privacy.MECHANISMS.origin("gaussian") is None
    assert plan.plugin == "third_party_noise"


def test_noise_of_a_users_event_is_calibrated_each_time(monkeypatch):
    """An event of a class of one's own can depend on more than its fields."""
    target = {"noise_multiplier": None, "target_epsilon": 2.0}
    once = plan_of(**target).noise_multiplier
    curve = third_party_noise.PebbleEvent.epsilon_curve

    def of_half_the_noise(event, *arguments):
        return curve(event.with_noise(event.noise / 2), *arguments)

    monkeypatch.setattr(
        third_party_noise.PebbleEvent, "epsilon_curve", of_half_the_noise
    )
    assert plan_of(**target).noise_multiplier == pytest.approx(2 * once, abs=0.002)


@pytest.mark.usefixtures("on_a_worker")
class TestRounds:
    VALUE = tff.StructWithPythonType([(None, tff.TensorType(np.float32, [9]))], tuple)

    def test_a_round_adds_the_declared_noise(self):
        plan = plan_of()
        built = plan.build(privacy.MechanismContext(noise_seed=7))
        process = built.aggregator.create(self.VALUE, tff.TensorType(np.float32))
        zeros = (np.zeros(9, np.float32),)
        output = process.next(process.initialize(), [zeros] * 2, [np.float32(1)] * 2)
        assert np.abs(output.result[0]).min() > 0
        plan.check_measured({"aggregator": output.measurements})
        # 4 · 2 / 5.
        assert output.measurements["noise_stddev"] == pytest.approx(1.6)
        assert probe.probe_noise(built) == pytest.approx(1.6, rel=0.02)

    def test_less_noise_than_it_says_is_found_by_the_probe_alone(self, monkeypatch):
        monkeypatch.setitem(third_party_noise.SCALES, "added", 0.9)
        built = plan_of().build(privacy.MechanismContext(noise_seed=7))
        with pytest.raises(SettingError) as raised:
            probe.probe_noise(built)
        assert "mechanism=pebbles: 65536 coordinates of noise" in str(raised.value)

    def test_a_mechanism_that_declares_nothing_is_refused(self, monkeypatch):
        pebbles = third_party_noise.Pebbles
        monkeypatch.setattr(pebbles, "declared_noise", lambda *_: {}, raising=False)
        built = plan_of().build(privacy.MechanismContext(noise_seed=7))
        with pytest.raises(SettingError, match="declares nothing that a round could"):
            probe.probe_noise(built)
        monkeypatch.setattr(pebbles, "declared_noise", lambda *_: {"x": 1.0})
        with pytest.raises(SettingError, match="the round measured no x"):
            probe.probe_noise(built)

    def test_less_noise_that_it_says_is_refused_by_the_plan(self, monkeypatch):
        monkeypatch.setitem(third_party_noise.SCALES, "added", 0.9)
        monkeypatch.setitem(third_party_noise.SCALES, "said", 0.9)
        built = plan_of().build(privacy.MechanismContext(noise_seed=7))
        process = built.aggregator.create(self.VALUE, tff.TensorType(np.float32))
        zeros = (np.zeros(9, np.float32),)
        output = process.next(process.initialize(), [zeros], [np.float32(1)])
        with pytest.raises(SettingError, match=r"= 1\.6, but the round measured 1\.44"):
            plan_of().check_measured({"aggregator": output.measurements})


class TestLedger:
    def test_lines_name_the_plugin(self, ledger_file):
        lines = [json.loads(line) for line in ledger_file.read_text().splitlines()]
        assert {line["plugin"] for line in lines} == {"third_party_noise"}
        assert lines[0]["event"] == {
            "kind": "pebbles",
            "noise_multiplier": 4.0,
            "population": 5,
            "neighbouring_relation": "zero_out",
        }
        (run,) = spending.read_ledger(ledger_file).runs
        assert run.groups == [(third_party_noise.PebbleEvent(4.0, 5), 3)]

    def test_resuming_goes_on(self, ledger_file):
        with privacy.Ledger(ledger_file) as ledger:
            account = privacy.RoundAccount(ledger, plan_of())
            assert account.charge(4) == pytest.approx(epsilon(4, 4.0))
            assert len(ledger) == 4

    def test_a_shared_ledger_and_a_search(self, tmp_path):
        people = privacy.Population.of("abcde")
        search = privacy.HyperparameterSearchEvent(plan_of().event, 3.0)
        for _ in range(2):
            path = tmp_path / "shared.jsonl"
            with privacy.SharedLedger(path, "a" * 16, people) as shared:
                shared.record(len(shared) + 1, search)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["plugin"] for line in lines] == ["third_party_noise"] * 2
        assert spending.read_ledger(path).runs[0].events == (search, search)

    @pytest.mark.parametrize("command", ["show", "verify"])
    def test_without_the_plugin_the_error_names_it(self, ledger_file, command):
        def run(*more):
            code = "import sys; from tfl_research.cli.privacy_ledger import main"
            return subprocess.run(
                [
                    sys.executable,
                    "-c",
                    f"{code}; sys.exit(main(sys.argv[1:]))",
                    command,
                    str(ledger_file),
                    *more,
                ],
                cwd=HERE,
                capture_output=True,
                text=True,
                timeout=120,
            )

        alone = run()
        assert alone.returncode == 2
        assert alone.stderr == (
            f"privacy_ledger: {ledger_file}, line 1: is of kind 'pebbles', which the "
            "plugin third_party_noise registers; give --plugin=third_party_noise (in "
            "Python, import it first)\n"
        )
        given = run("--plugin=third_party_noise")
        assert (given.returncode, given.stderr) == (0, "")
        assert "3" in given.stdout
        mistyped = run("--plugin=no_such_module")
        assert mistyped.returncode == 2
        assert mistyped.stderr.startswith(
            "privacy_ledger: --plugin=no_such_module: cannot be imported"
        )

    def test_a_kind_that_no_line_explains(self, ledger_file):
        fields = third_party_noise.PebbleEvent(4.0, 5).to_dict()
        privacy.EVENTS.unregister("pebbles")
        try:
            with pytest.raises(ValueError, match="kind of event must be one of"):
                privacy.event_from_dict(fields)
            with pytest.raises(privacy.MissingPluginError) as raised:
                privacy.Ledger(ledger_file)
            assert "give --plugin=third_party_noise" in raised.value.for_command_line
            assert "plugin third_party_noise registers" in str(raised.value)
        finally:
            privacy.register_event(third_party_noise.PebbleEvent)

    def test_what_is_not_registered_cannot_be_charged(self, tmp_path):
        class Renamed(third_party_noise.PebbleEvent):
            kind = "pebbles"

        with privacy.Ledger(tmp_path / "ledger.jsonl") as ledger:
            with pytest.raises(ValueError, match="Renamed is not registered for eve"):
                ledger.record(1, Renamed(4.0, 5))
            assert len(ledger) == 0

        class Cheaper(type(privacy.MECHANISMS.resolve("gaussian"))):
            """Another aggregator under the name of the toolkit's own mechanism."""

        with pytest.raises(ValueError, match="Cheaper is not the class that is regi"):
            privacy.UserLevelPlan.create(
                Cheaper(),
                l2_norm_clip=2.0,
                amplification=FULL,
                rounds=8,
                noise_multiplier=4.0,
            )
        assert (tmp_path / "ledger.jsonl").read_bytes() == b""

    def test_a_class_that_is_no_event_is_not_registered(self):
        class Stone:
            kind = "stone"

        with pytest.raises(ValueError, match=r"must be a subclass of privacy\.Event"):
            privacy.register_event(Stone)
        with pytest.raises(ValueError, match="'pebbles' is already registered"):
            privacy.register_event(third_party_noise.PebbleEvent)


class TestCommandLine:
    def call(self, capsys, *arguments):
        code = ledger_cli.main(list(arguments))
        return (code, *capsys.readouterr())

    def test_plan_takes_the_mechanism_and_its_parameters(self, capsys):
        code, out, err = self.call(
            capsys, "plan", "--plugin=third_party_noise", "--mechanism=pebbles",
            "--roughness=0.7", "--sampler=full", "--population=5", "--rounds=3",
            "--noise_multiplier=4",
        )  # fmt: skip
        assert (code, err) == (0, "")
        assert "Pebbles are thrown, z = 4 (Stone 1900)." in out
        assert "planned  pebbles z=4" in out

    def test_plan_rounds_like_those_of_its_ledger(self, capsys, ledger_file):
        code, out, _ = self.call(
            capsys, "plan", f"--event_of={ledger_file}", "--rounds=3", "--delta=1e-3",
            f"--ledger={ledger_file}",
        )  # fmt: skip
        assert code == 0
        assert "together" in out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("--roughness=0 --sampler=full", "--roughness=0: must be a number"),
            ("--sampler=poisson --cohort_size=2", "does not cover --sampler=poisson"),
            ("--sampler=full --bands=3", "--bands=3: goes with --mechanism=banded"),
        ],
    )
    def test_what_does_not_fit(self, capsys, arguments, message):
        code, _, err = self.call(
            capsys, "plan", "--mechanism=pebbles", "--population=5", "--rounds=3",
            "--noise_multiplier=4", *arguments.split(),
        )  # fmt: skip
        assert code == 2
        assert message in err


@pytest.mark.parametrize("name", ["discrete_gaussian", "skellam"])
def test_plan_of_distributed_noise_is_that_of_a_run(capsys, name):
    """The grid follows the noise that is looked for, as in a run."""
    arguments = [
        "plan", f"--mechanism={name}", "--sampler=full", "--population=40",
        "--rounds=5", "--target_epsilon=6", "--delta=1e-3", "--modulus_bits=18",
    ]  # fmt: skip
    assert ledger_cli.main(arguments) == 2
    assert f"--dimension is missing: the noise of {name}" in capsys.readouterr().err
    assert ledger_cli.main([*arguments, "--dimension=300"]) == 0
    out = capsys.readouterr().out
    plan = privacy.UserLevelPlan.create(
        privacy.MECHANISMS.get(name)(modulus_bits=18),
        l2_norm_clip=1.0,
        amplification=sampling.Full(range(40)).amplification,
        rounds=5,
        target_epsilon=6,
        delta=1e-3,
        model_dimension=lambda: 300,
    )
    assert f"noise multiplier z = {plan.noise_multiplier:g}: the least" in out
