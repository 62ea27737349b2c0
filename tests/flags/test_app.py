"""The command line: exit codes, one-line errors, hyperparameters."""

from __future__ import annotations

import errno
import os
import warnings

import pytest
from absl import flags as absl_flags, logging as absl_logging

from tfl_research.errors import RunInterrupted, UserError
from tfl_research.flags import AggregatorFlags, SamplerFlags, WeightingFlags, app

GROUPS = (SamplerFlags, WeightingFlags)


@pytest.fixture
def run(capsys):
    """(main, flags) -> (exit code, output, errors)."""

    def execute(main, *flags, groups=GROUPS, defaults=None):
        code = app.execute(
            main, groups, "What it does.", ["/a/program.py", *flags], defaults=defaults
        )
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return execute


def test_main_sees_the_flags(run):
    seen = []
    code, _, _ = run(
        lambda: seen.append(SamplerFlags.get()), "--cohort_size=3", "--sampler=fixed"
    )
    assert code == 0
    assert seen == [SamplerFlags("fixed", 3)]


def test_defaults_of_the_experiment(run):
    seen = []

    def main():
        seen.append(WeightingFlags.get().client_weighting)

    run(main, defaults={"client_weighting": "uniform"})
    run(main, "--client_weighting=examples", defaults={"client_weighting": "uniform"})
    run(main)
    assert seen == ["uniform", "examples", "examples"]


def test_nothing_is_left_of_an_earlier_call(run):
    seen = []
    run(lambda: None, "--cohort_size=3", groups=(*GROUPS, AggregatorFlags))
    run(lambda: seen.append(app.hparams()))
    assert seen[0]["cohort_size"] is None
    assert "aggregator" not in seen[0]
    code, _, errors = run(lambda: None, "--aggregator=mean")
    assert code == 2
    assert "unknown flag --aggregator" in errors


def test_hparams_are_all_flags_but_those_of_libraries(run):
    # The module defines flags when it is imported.
    assert absl_logging.get_verbosity() is not None
    seen = []
    run(lambda: seen.append(app.hparams()), "--cohort_size=3")
    assert seen[0]["cohort_size"] == 3
    assert seen[0]["sampler"] == "poisson"
    assert "verbosity" in absl_flags.FLAGS
    assert "verbosity" not in seen[0]


def test_hparams_have_the_flags_of_a_script_of_ones_own(run):
    seen = []
    absl_flags.DEFINE_float("own_strength", 0.5, "Of the script.", module_name="own")
    try:
        run(lambda: seen.append(app.hparams()), "--own_strength=2")
    finally:
        delattr(absl_flags.FLAGS, "own_strength")
    assert seen[0]["own_strength"] == 2


def test_an_error_of_the_user_is_one_line(run):
    def main():
        raise UserError("the folder\n  is full")

    assert run(main) == (2, "", "error: the folder is full\n")


def test_another_error_is_not_swallowed(run):
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main)


def test_a_full_disk_is_one_line(run):
    for name, said in (("/d/x.csv", "/d/x.csv"), (None, "a file")):

        def main(name=name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

        code, _, err = run(main)
        assert code == 2
        assert err == (
            f"error: {said} could not be written (No space left on device); free "
            "space, then give the same command again to resume\n"
        )

    def bad_descriptor():
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    with pytest.raises(OSError, match="Bad file"):
        run(bad_descriptor)


def test_interruptions(run):
    def by_keyboard():
        raise KeyboardInterrupt

    assert run(by_keyboard) == (130, "", "interrupted\n")

    def in_the_loop():
        raise RunInterrupted

    with pytest.raises(SystemExit) as raised:
        run(in_the_loop)
    assert raised.value.code == 130


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--sampler=all", "error: --sampler=all: must be one of poisson, fixed"),
        ("--cohort_size=x", "error: --cohort_size=x: must be a number, above 0"),
        ("--cohort_siz=3", "error: unknown flag --cohort_siz; did you mean --cohort_"),
        ("--zzzzzz=3", "error: unknown flag --zzzzzz (--help lists all)"),
        ("three", "error: unexpected argument 'three'; flags are given as"),
        ("--flagfile=/no/such", "error: Unable to open flagfile"),
    ],
)  # fmt: skip
def test_bad_command_lines(run, flag, message):
    code, output, errors = run(lambda: pytest.fail("main must not run"), flag)
    assert (code, output) == (2, "")
    assert errors.startswith(message)
    assert errors.count("\n") == 1


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpfull"])
def test_help_wins_over_everything_else(run, flag):
    code, output, errors = run(
        lambda: pytest.fail("main must not run"), "--sampler=all", flag
    )
    assert (code, errors) == (0, "")
    assert output.startswith("What it does.\n\nUsage: program.py --flag=value")
    assert "\nCohort:\n  --sampler=poisson|fixed|shuffled|full|" in output
    assert "(default: poisson)" in output


def test_help_as_a_value_is_no_help(run):
    seen = []
    code, output, _ = run(lambda: seen.append(1), "--", "--help")
    assert code == 2
    assert seen == []
    assert output == ""


def test_warnings_are_one_line(run):
    def main():
        warnings.warn("beware\nof this", stacklevel=1)

    assert run(main) == (0, "", "warning: beware of this\n")


def test_run_main_exits(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["program.py", "--cohort_size=0"])
    with pytest.raises(SystemExit) as raised:
        app.run_main(lambda: None, GROUPS, "Doc.")
    assert raised.value.code == 2
    assert capsys.readouterr().err.startswith("error: --cohort_size=0")
