"""What a privacy statement says, by the events that it is derived from."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import ClassVar

import pytest

from tfl_research import outputs, privacy
from tfl_research.privacy.accounting.events.gaussian_event import GaussianEvent
from tfl_research.privacy.accounting.events.search_event import (
    HyperparameterSearchEvent,
)
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger.statements.statement import (
    SharedTotal,
    opening_lines,
    privacy_statement,
)
from tfl_research.privacy.ledger.statements.statement_numbers import DELTAS
from tfl_research.privacy.ledger.statements.statement_outputs import GivenOut

# Not sampled: ε and ρ have closed forms.
PLAIN = GaussianEvent("none", 8.0, 1.0, 5000, 100.0, "add_or_remove_one")
SAMPLED = GaussianEvent("poisson", 1.0, 0.02, 5000, 100.0, "add_or_remove_one")


def stated(event, **options):
    options = {"delta": 1e-5, "accountant": "pld", **options}
    text = privacy_statement(event, **options)
    # A sentence may be broken anywhere.
    return " ".join(text.split()), text


def numbers(text):
    """The table's rows: δ by accountants' ε."""
    rows = {}
    for line in text.splitlines():
        found = re.fullmatch(r"    ([\de.-]+)((?: +[\d.inf]+)+)", line)
        if found:
            rows[float(found[1])] = [float(cell) for cell in found[2].split()]
    return rows


def test_a_plan_names_everything_that_a_guarantee_consists_of():
    text, _ = stated(PLAIN, planned_rounds=64)
    for words in (
        "1. Guarantee",
        "δ = 1e-05)-differential privacy of all that 64 rounds release together",
        "Unit of privacy: one client with all of its examples (user-level privacy).",
        "Neighbouring relation: add or remove one client.",
        "The number of clients, and with it the sampling rate and the denominator, is "
        "taken to be public",
        "2. Mechanism",
        "McMahan et al. 2018, arXiv 1710.06963",
        "no amplification: all of 5000 clients are charged for every round",
        "Noise multiplier: z = 8.",
        "Planned: 64 rounds; none was done when this was written.",
        "Accountant: privacy loss distributions (PLD)",
        "Cross-check by Rényi differential privacy (RDP)",
        "5. What was given out",
        "6. Outside the guarantee",
        "What is given out exactly: cohort_size, examples, excluded_clients, "
        "excluded_by_client, train_*, eval_*",
        "adaptive zeroing",
        "the time of a round depends on who took part",
        "Hyperparameters that were chosen",
        "floating-point generator",
    ):
        assert words in text, words


def test_lines_are_short_enough_to_read():
    _, text = stated(SAMPLED, planned_rounds=10, notes=["word " * 60])
    assert max(map(len, text.splitlines())) <= 80
    assert text.endswith("\n")


def test_numbers_are_the_accountants_rounded_up():
    _, text = stated(PLAIN, planned_rounds=64, delta=1e-7)
    found = numbers(text)
    assert sorted(found) == sorted({*DELTAS, 1e-7})
    for delta, (by_pld, by_rdp) in found.items():
        for shown, name in ((by_pld, "pld"), (by_rdp, "rdp")):
            exact = privacy.composed_epsilon([(PLAIN, 64)], delta, name)
            assert exact <= shown <= exact * 1.001


def test_zcdp_by_hand():
    # 64 rounds at z = 8: ρ = 64 / (2 · 8²).
    text, _ = stated(PLAIN, planned_rounds=64)
    assert "Zero-concentrated differential privacy: ρ = 0.5." in text
    assert "does not count amplification by sampling" in text


def test_what_was_spent_takes_the_place_of_what_was_planned():
    text, whole = stated(PLAIN, spent=[(PLAIN, 16)], planned_rounds=64)
    assert (
        "Done: 16 of 64 planned rounds when this was written; the numbers are of "
        "those done." in text
    )
    assert "that 16 rounds release together" in text
    assert "ρ = 0.125." in text
    assert numbers(whole)[1e-5][0] == pytest.approx(
        privacy.composed_epsilon([(PLAIN, 16)], 1e-5), rel=1e-3
    )
    complete, _ = stated(PLAIN, spent=[(PLAIN, 64)], planned_rounds=64)
    assert "Done: 64 rounds." in complete


def test_rounds_of_several_events_are_composed():
    louder = dataclasses.replace(PLAIN, noise_multiplier=4.0)
    text, whole = stated(PLAIN, spent=[(louder, 4), (PLAIN, 16)], planned_rounds=20)
    # 4 / (2 · 4²) + 16 / (2 · 8²).
    assert "ρ = 0.25." in text
    assert numbers(whole)[1e-5][0] == pytest.approx(
        privacy.composed_epsilon([(louder, 4), (PLAIN, 16)], 1e-5), rel=1e-3
    )


def test_replace_one_and_an_accountant_that_does_not_apply():
    event = GaussianEvent("fixed_size", 2.0, 0.02, 5000, 100.0, "replace_one")
    text, whole = stated(event, accountant="rdp", planned_rounds=50)
    assert "replace one client's data by any other" in text
    assert "the sensitivity is twice the clip" in text
    assert "Cross-check" not in text
    assert all(len(row) == 1 for row in numbers(whole).values())


def test_the_cross_check_says_whether_it_differs():
    text, _ = stated(SAMPLED, planned_rounds=100)
    assert "they differ by more than 5%" in text
    # At very small δ the two are close.
    near, _ = stated(PLAIN, planned_rounds=64, delta=1e-12)
    assert "they agree within 5%" in near


def test_no_noise_is_stated_as_no_guarantee():
    event = dataclasses.replace(PLAIN, noise_multiplier=0.0)
    text, whole = stated(event, planned_rounds=3)
    assert "None: ε is infinite at δ = 1e-05 after 3 rounds." in text
    assert "Zero-concentrated" not in text
    assert math.isinf(numbers(whole)[1e-5][0])


def test_a_large_delta_is_warned_of():
    text, _ = stated(PLAIN, planned_rounds=3, delta=1e-3)
    assert "Warning: delta = 0.001 is at least 1/clients = 0.0002" in text
    assert "Warning: " not in stated(PLAIN, planned_rounds=3)[0]


def test_budget_and_shared_ledger():
    shared = SharedTotal("runs.jsonl", 3, 700, 4.56789)
    text, _ = stated(PLAIN, planned_rounds=3, budget_epsilon=6.0, shared=shared)
    assert "would put the ε of all runs in the ledger above 6." in text
    assert "runs.jsonl: 3 runs with 700 rounds in all, together ε = 4.568" in text
    alone, _ = stated(PLAIN, planned_rounds=3, budget_epsilon=6.0)
    assert "would put this run's ε above 6." in alone


def test_a_search_is_not_told_that_its_search_is_left_out():
    event = HyperparameterSearchEvent(PLAIN, 10.0)
    text, _ = stated(event, accountant="rdp", planned_rounds=10)
    assert "Papernot and Steinke 2022" in text
    assert "Hyperparameters that were chosen" not in text


@pytest.mark.parametrize(
    ("event", "thresholds", "ledger"),
    [
        (PLAIN, True, "Share one ledger between them (--ledger)"),
        (privacy.LocalGaussianEvent(8.0, 5000, 100.0), False, "Share one ledger"),
        (
            privacy.RecordEvent(1.0, 20.0, 4, 1, (("a", 300), ("b", 500))),
            False,
            "Share one folder of ledgers between them (--record_ledgers)",
        ),
    ],
)
def test_what_is_left_out_fits_where_the_noise_is_added(event, thresholds, ledger):
    text, _ = stated(event, planned_rounds=3)
    assert ("adaptive zeroing" in text) is thresholds
    assert ("single updates" in text) is thresholds
    assert ledger in text
    assert ("(--ledger)" in text) is (event.unit == "client")


@dataclasses.dataclass(frozen=True)
class Stub(privacy.Event):
    """An event of a mechanism that this module was not written for."""

    kind: ClassVar[str] = "stub"

    neighbouring_relation: str = "zero_out"
    stddev: float = 4.0

    @property
    def unit(self):
        return "record"

    @property
    def accountants(self):
        return ("pld", "rdp")

    def description(self):
        return ["Pebbles are thrown (Stone 1900)."]

    def effective_noise_multiplier(self, rounds):
        return self.stddev / rounds**0.25

    def rdp(self, rounds, orders):
        return orders / (2 * self.effective_noise_multiplier(rounds) ** 2)

    def epsilon_curve(self, rounds, delta, accountant):
        noise = [self.effective_noise_multiplier(n) for n in range(1, rounds + 1)]
        return privacy.EpsilonCurve(PLAIN, delta, accountant).up_to(rounds)[1:] / noise


def test_is_derived_from_the_event():
    text, _ = stated(Stub(), planned_rounds=16)
    assert "Pebbles are thrown (Stone 1900)." in text
    assert "Unit of privacy: one record of one client (record-level privacy)" in text
    assert "replace one record's contribution by zero (zero-out)" in text
    assert "All 16 rounds together are one Gaussian whose noise is 2 times" in text
    assert "ρ = 0.125." in text
    assert "McMahan" not in text
    assert "Noise multiplier: z" not in text


def test_an_amplified_matrix_is_more_than_one_gaussian():
    """Turns every 4 rounds, joined with probability 0.1: 16 rounds are 4 turns, √4
    times the sensitivity of one."""
    for rate, relation, words in (
        (None, "zero_out", "All 16 rounds together are"),
        (
            0.1,
            "add_or_remove_one",
            "If it were known who took part, all 16 rounds together would be",
        ),
    ):
        event = privacy.MatrixEvent(6.0, 32, 4, 4, 4, rate, 100, 10.0, relation)
        text, _ = stated(event, planned_rounds=16)
        assert f"{words} one Gaussian whose noise is 3 times its" in text


@pytest.mark.parametrize(
    ("declared", "there", "absent"),
    [
        ("noised_by_clients", "sees the secret run seed", "single updates"),
        ("releases_integers", "is not a cryptographic one", "low-order bits"),
        ("is_search", "sees single updates, the secret", "Hyperparameters that were"),
        ("kind", "sees single updates, the secret run seed", "cryptographic"),
    ],
)
def test_what_is_outside_depends_on_the_mechanism(declared, there, absent):
    changed = type("Changed", (Stub,), {declared: True})
    text, _ = stated(changed(), planned_rounds=4)
    assert there in text
    assert absent not in text


def test_additions_of_the_run():
    text, _ = stated(
        PLAIN, planned_rounds=4, outside=["The pebbles' colour."], notes=["A note."]
    )
    assert "- The pebbles' colour." in text
    assert "7. Notes A note." in text


def test_opening_lines():
    lines = opening_lines(
        PLAIN, delta=1e-5, accountant="pld", planned_rounds=64, budget_epsilon=9.0
    )
    text = "\n".join(lines)
    assert lines[0].startswith("Privacy unit: one client with all of its examples")
    assert "no amplification" in text
    epsilon = PLAIN.epsilon(64, 1e-5, "pld")
    assert f"Planned: ε = {rounded_up(epsilon)} at δ = 1e-05 after 64 rounds" in text
    assert "exceed ε = 9." in lines[-1]
    unplanned = opening_lines(PLAIN, delta=1e-5, accountant="pld", planned_rounds=None)
    assert unplanned[-1] == "ε is told after each round at δ = 1e-05."


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (math.inf, "inf"),
        (1.23401, "1.235"),
        (1.234, "1.234"),
        (0.1 + 0.2, "0.3"),
        (0.00012341, "0.0001235"),
        (12345.6, "1.235e+04"),
        (9.9999, "10"),
    ],
)
def test_rounding_is_up(value, shown):
    assert rounded_up(value) == shown


SHOWN = outputs.Release(is_private=True)
WITHHELD = outputs.Release(is_private=True, withholds=True)


def given_out(release, decided_by="", **more):
    columns = ("round", "cohort_size", "eval_loss", "held_out_loss", "clip_norm")
    files = ("export/final", "clients.csv")
    return GivenOut(release, columns, files, decided_by, **more)


class TestOutputs:
    def test_what_was_given_out_by_class(self):
        text, _ = stated(PLAIN, planned_rounds=4, given=given_out(SHOWN, "eval_loss"))
        for words in (
            "Private, covered by ε: held_out_loss, clip_norm, export/final.",
            "Public, the same for any data: round, hparams.json, ",
            "Exact, not covered by ε: cohort_size, eval_loss, clients.csv.",
            "Withheld: nothing.",
            "Stays with the owner of the run: run_seed, checkpoints, ",
            "The metrics eval_... are computed on the training clients' own test "
            "examples. They are exact.",
            "ε protects the training clients, but not the held-out clients.",
            "The best model is chosen by eval_loss, which is exact",
            "What is given out exactly: cohort_size, eval_loss, clients.csv.",
            "The choice of the best model, and an early stop, by eval_loss.",
            "The held-out clients: metrics on them are exact.",
        ):
            assert words in text, words

    def test_what_is_withheld_of_a_pattern(self):
        release = outputs.Release(
            is_private=True, withholds=True, named=frozenset(["eval_loss"])
        )
        text, _ = stated(PLAIN, planned_rounds=4, given=given_out(release))
        assert "Exact, not covered by ε: eval_loss." in text
        assert "train_*, the other eval_*, bytes_down" in text

    def test_what_was_withheld(self):
        given = given_out(WITHHELD, "held_out_loss")
        text, _ = stated(PLAIN, planned_rounds=4, given=given)
        assert "Exact, not covered by ε: nothing." in text
        assert (
            "Withheld: cohort_size, examples, excluded_clients, excluded_by_client, "
            in text
        )
        assert "audit.json (membership)." in text
        assert "eval_*, bytes_down" in text
        assert "The best model is chosen by held_out_loss, which ε covers." in text
        assert "eval_..." not in text
        assert "What is given out exactly" not in text
        assert "do not leave the clients" not in text
        nothing, _ = stated(PLAIN, planned_rounds=4, given=given_out(WITHHELD))
        assert "No best model is chosen." in nothing

    def test_a_file_of_a_callback_is_there_though_exact_ones_are_withheld(self):
        given = GivenOut(WITHHELD, (), ("clients.csv", "mine.npz", "mlflow.json"))
        text, _ = stated(PLAIN, planned_rounds=4, given=given)
        assert "Exact, not covered by ε: mine.npz." in text
        assert "What is given out exactly: mine.npz." in text
        assert "mlflow.json" in text.split("Public, the same")[1].split("Exact")[0]

    def test_a_private_evaluation_is_no_exact_one(self):
        given = GivenOut(WITHHELD, ("private_accuracy",), (), "private_accuracy")
        text, _ = stated(PLAIN, planned_rounds=4, given=given)
        assert "with noise that is charged." in text
        assert "chosen by private_accuracy, which ε covers" in text

    def test_further_charges_are_counted_and_composed(self):
        choice = privacy.PureEvent(0.5, "add_or_remove_one", population=5000)
        groups = [(PLAIN, 16), (choice, 1)]
        text, whole = stated(PLAIN, spent=groups, rounds=16, planned_rounds=16)
        assert "all that 16 rounds and 1 further charge release together" in text
        assert "Done: 16 rounds." in text
        exact = privacy.composed_epsilon(groups, 1e-5)
        assert numbers(whole)[1e-5][0] == pytest.approx(exact, rel=1e-3)
        planned, _ = stated(
            PLAIN, rounds=0, planned_rounds=16, planned_releases=[(choice, 2)]
        )
        assert "all that 16 rounds and 2 further charges release together" in planned
        lines = opening_lines(
            PLAIN,
            delta=1e-5,
            accountant="pld",
            planned_rounds=16,
            planned_releases=[(choice, 2)],
        )
        assert any("16 rounds and 2 further charges" in line for line in lines)


def test_assumptions_come_before_what_is_outside():
    text, _ = stated(PLAIN, planned_rounds=4, assumptions=["The schema is public."])
    assert "6. Assumptions - The schema is public. 7. Outside the guarantee" in text
    assert "Assumptions" not in stated(PLAIN, planned_rounds=4)[0]


def test_the_rest_of_delta_of_the_sampler_is_stated():
    text, _ = stated(PLAIN, planned_rounds=4, sampler_delta=1.23e-9)
    assert "δ = 1e-05 + 1.3e-09)-differential privacy" in text
    assert "finitely many random bits" in text
    assert "finitely many" not in stated(PLAIN, planned_rounds=4)[0]
