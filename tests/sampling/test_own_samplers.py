"""Samplers of a user's own: what they draw, what they cost, what is recorded."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import tfl_research as tfl
from tfl_research import cli, privacy, sampling, settings
from tfl_research.cli import privacy_ledger
from tfl_research.experiment import setup as setups
from tfl_research.registry import registered

IDS = tuple(f"client {n}" for n in range(7))


@dataclasses.dataclass(frozen=True)
class InTurn(sampling.SamplerSettings):
    NAME, SUMMARY = "in_turn", "a random client and those behind it"

    step: int = settings.integer(1, "Distance of clients.", minimum=1)

    def draw(self, client_ids, cohort_size, seed, round_number):
        first = np.random.default_rng((seed, round_number)).integers(len(client_ids))
        return (first + self.step * np.arange(cohort_size)) % len(client_ids)


@pytest.fixture(autouse=True)
def in_turn():
    with registered(sampling.OWN_SAMPLERS, "in_turn", InTurn):
        yield


def drawn_by(draw, *, fixed_size=True):
    """The cohorts of a sampler with this function."""
    settings_of = type("Own", (InTurn,), {"draw": draw, "FIXED_SIZE": fixed_size})
    return sampling.OwnCohorts(IDS, 3, 5, settings_of())


class TestCohorts:
    def test_they_are_the_clients_at_the_positions_in_the_order_of_the_population(self):
        found = drawn_by(lambda *_: [6, 0, 3]).sample(4)
        assert found == ("client 0", "client 3", "client 6")

    def test_a_draw_gets_population_size_seed_and_round(self):
        asked = []

        def draw(_, *arguments):
            asked.append(arguments)
            return range(3)

        drawn_by(draw).sample(9)
        ((ids, size, seed, number),) = asked
        assert (ids, size, number) == (IDS, 3, 9)
        # NumPy takes the seed, whatever the seed of the run is.
        for of_run in (-1, 2**200):
            sampling.OwnCohorts(IDS, 3, of_run, InTurn()).sample(1)
        assert 0 <= seed < 2**64

    @pytest.mark.parametrize(
        ("drawn", "said"),
        [
            ([1, 1, 2], "position 1 is there twice"),
            ([0, 1], "expected 3 clients, got 2; .*FIXED_SIZE = False"),
            ([0, 1, 2, 3], "expected 3 clients, got 4"),
            ([0, 1, 7], "expected positions from 0 to 6, got 7"),
            ([-1, 1, 2], "expected positions from 0 to 6, got -1"),
            (["client 1"], "expected a list of positions in client_ids"),
            ([0.0, 1.0, 2.0], "expected a list of positions"),
            ([True, True, False], "expected a list of positions"),
            ([[0], [1, 2]], "expected a list of positions"),
            (None, "expected a list of positions"),
        ],
    )
    def test_a_wrong_draw_is_refused(self, drawn, said):
        with pytest.raises(
            tfl.SettingError, match=f"in_turn.*Own.draw, round 2: {said}"
        ):
            drawn_by(lambda *_: drawn).sample(2)

    def test_an_error_of_the_draw_names_the_sampler_and_the_round(self):
        with pytest.raises(tfl.SettingError, match="round 3: failed"):
            drawn_by(lambda *_: {}["a"]).sample(3)

    def test_cohorts_may_be_smaller_only_if_the_class_says_so(self):
        smaller = drawn_by(lambda *_: [], fixed_size=False)
        assert smaller.sample(1) == ()
        assert (smaller.minimum_cohort_size, smaller.maximum_cohort_size) == (0, 3)
        assert drawn_by(lambda *_: [0, 1, 2]).minimum_cohort_size == 3

    def test_a_draw_that_cannot_be_repeated_is_refused(self):
        numbers = iter(range(5))
        changing = drawn_by(lambda *_: np.arange(3) + next(numbers))
        with pytest.raises(tfl.SettingError, match="when it is repeated"):
            changing.digest()


class TestSettings:
    def test_flat_settings_and_back(self):
        experiment = tfl.Experiment("heart", cohorts=tfl.Cohorts(InTurn(3)))
        flat = experiment.flat()
        assert (flat["sampler"], flat["step"]) == ("in_turn", 3)
        assert tfl.Experiment.from_flat(flat).cohorts == experiment.cohorts
        assert experiment.with_settings(step=2).cohorts.own == InTurn(2)
        assert experiment.with_settings(cohort_size=2).cohorts.own == InTurn(3)
        other = experiment.with_settings(sampler="fixed")
        assert other.cohorts == tfl.Cohorts("fixed")
        assert other.with_settings(sampler="in_turn").cohorts.own == InTurn()

    def test_a_parameter_without_its_sampler_is_refused(self):
        with pytest.raises(tfl.SettingError, match="step=2: goes with sampler=in_turn"):
            tfl.Experiment.from_flat({"task": "heart", "step": 2})

    def test_a_class_that_is_not_registered_is_refused(self):
        class Other(InTurn):
            NAME = "other"

        with pytest.raises(tfl.SettingError, match="Other is not registered"):
            tfl.Cohorts(Other())

    def test_the_toolkits_names_are_taken(self):
        class Poisson(InTurn):
            NAME = "poisson"

        with pytest.raises(ValueError, match="'poisson' is already registered"):
            sampling.register(Poisson)

    def test_the_record_tells_other_draws_apart(self, monkeypatch):
        def recorded():
            cohorts = tfl.Cohorts(InTurn(), cohort_size=2)
            return setups.prepare(tfl.Experiment("heart", cohorts=cohorts)).hparams()

        before = recorded()
        assert recorded() == before
        monkeypatch.setattr(InTurn, "draw", lambda *_: [0, 1])
        assert recorded()["cohorts_sha256"] != before["cohorts_sha256"]
        plain = setups.prepare(tfl.Experiment("heart")).hparams()
        assert "cohorts_sha256" not in plain


def test_a_run_by_flags_has_the_drawn_clients_and_the_figures_of_python(tmp_path):
    preset = cli.Preset("own", "A test.", cli.COMMON, defaults={"task": "heart"})
    common = {"rounds": 2, "tensorboard": False, "progress_bar": False}
    flags = ["--sampler=in_turn", "--step=3", "--cohort_size=2", "--rounds=2"]
    flags += ["--notensorboard", "--noprogress_bar"]
    folders = [tmp_path / "flags", tmp_path / "python"]
    assert cli.execute(preset, ["own.py", *flags, f"--output_dir={folders[0]}"]) == 0
    cohorts = tfl.Cohorts(InTurn(3), cohort_size=2)
    experiment = tfl.Experiment(
        "heart", cohorts=cohorts, training=tfl.Training(**common)
    )
    metrics = experiment.run(folders[1]).metrics.drop(columns="round_seconds")
    assert metrics["cohort_size"].tolist() == [2, 2]
    theirs = pd.read_csv(folders[0] / "metrics.csv").drop(columns="round_seconds")
    pd.testing.assert_frame_equal(metrics, theirs)


def gaussian_epsilon(mu, delta):
    """ε of one Gaussian mechanism of sensitivity mu (Balle and Wang 2018)."""

    def excess(epsilon):
        upper = stats.norm.cdf(mu / 2 - epsilon / mu)
        lower = stats.norm.cdf(-mu / 2 - epsilon / mu)
        return upper - math.exp(epsilon) * lower - delta

    return optimize.brentq(excess, 0, 100)


class TestAccount:
    def test_there_is_no_amplification(self):
        cohorts = sampling.OwnCohorts(IDS, 3, 5, InTurn())
        found = cohorts.amplification
        assert (found.kind, found.neighbouring_relation) == ("none", "replace_one")
        assert (found.cohort_size, found.population) == (3, 7)

    def test_a_sampler_that_calls_itself_poisson_is_not_charged_as_poisson(self):
        """Three rounds at noise 2: twice the clip, in every round."""
        poisson = sampling.Poisson(range(40), 10, 0)
        own = type(
            "Own",
            (InTurn,),
            {"amplification": poisson.amplification, "NAME": "in_turn"},
        )
        cohorts = sampling.OwnCohorts(tuple(map(str, range(40))), 10, 0, own())
        plan = privacy.UserLevelPlan.create(
            "gaussian",
            l2_norm_clip=1,
            amplification=cohorts.amplification,
            rounds=3,
            noise_multiplier=2,
            delta=1e-3,
        )
        found = privacy.EpsilonCurve(plan.event, 1e-3, plan.accountant).at(3)
        assert found == pytest.approx(gaussian_epsilon(math.sqrt(3), 1e-3), rel=1e-3)

    @pytest.mark.parametrize("name", ["gaussian", "tree", "skellam", "local_gaussian"])
    def test_mechanisms_without_assumptions_about_sampling_take_it(self, name):
        private = tfl.UserLevelPrivacy(name, noise_multiplier=2)
        tfl.Experiment("mnist", cohorts=tfl.Cohorts("in_turn"), privacy=private).check()

    @pytest.mark.parametrize("covered", [("poisson",), ("full",), ("shuffled",)])
    def test_a_mechanism_that_covers_less_refuses_it(self, covered):
        gaussian = privacy.MECHANISMS.get("gaussian")
        chosen = type("Own", (gaussian,), {"NAME": "own", "SAMPLERS": covered})
        with registered(privacy.MECHANISMS, "own", chosen):
            experiment = tfl.Experiment(
                "mnist",
                cohorts=tfl.Cohorts("in_turn"),
                privacy=tfl.UserLevelPrivacy("own", noise_multiplier=2),
            )
            with pytest.raises(
                tfl.SettingError, match="does not cover sampler=in_turn"
            ):
                experiment.check()

    def test_the_planner_has_the_figure_of_the_run(self):
        out = io.StringIO()
        plan = ["--cohort_size=10", "--population=40", "--noise_multiplier=2"]
        plan += ["--rounds=3", "--delta=1e-3", "--sampler=in_turn"]
        with contextlib.redirect_stdout(out):
            assert privacy_ledger.main(["plan", *plan]) == 0
        shown = f"{gaussian_epsilon(math.sqrt(3), 1e-3):.4g}"
        assert shown in out.getvalue()
