"""Command lines: exit codes, one-line errors, no state that outlives a call."""

from __future__ import annotations

import errno
import os
import pathlib
import subprocess
import sys
import threading
import warnings
from typing import Any

import pytest
from absl import flags as absl_flags, logging as absl_logging

from tfl_research import cli
from tfl_research.errors import RunInterrupted, UserError
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import Cohorts, Training, Weighting

GROUPS = (Cohorts, Weighting, Training)


def preset(main=lambda given: None, groups=GROUPS, **more):
    return cli.Preset("program", "What it does.", groups, main=main, **more)


@pytest.fixture
def run(capsys):
    """(main, flags) -> (exit code, output, errors)."""

    def execute(main, *flags, **more):
        code = cli.execute(preset(main, **more), ["/a/program.py", *flags])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return execute


def test_main_sees_the_flags(run):
    seen = []
    code, _, _ = run(
        lambda given: seen.append(given.group(Cohorts)),
        "--cohort_size=3",
        "--sampler=fixed",
    )
    assert code == 0
    assert seen == [Cohorts("fixed", 3)]


def test_defaults_of_the_experiment(run):
    seen = []

    def main(given):
        seen.append(given.group(Weighting).client_weighting)

    run(main, defaults={"client_weighting": "uniform"})
    run(main, "--client_weighting=examples", defaults={"client_weighting": "uniform"})
    run(main)
    assert seen == ["uniform", "examples", None]


def test_nothing_is_left_of_an_earlier_call(run):
    seen = []
    run(lambda given: None, "--cohort_size=3")
    run(lambda given: seen.append(dict(given.values)))
    assert seen == [{}]
    code, _, errors = run(lambda given: None, "--rounds=3", groups=(Cohorts,))
    assert code == 2
    assert errors == "error: unknown flag --rounds (--help lists all)\n"


def test_flags_of_absl_stay_as_they_were(run):
    """A program of the user's own has parsed its flags, with names like ours."""
    before = set(absl_flags.FLAGS)
    assert not {"rounds", "cohort_size", "output_dir"} & before
    verbosity = absl_logging.get_verbosity()
    absl_flags.DEFINE_integer("rounds", 5, "Of another program.", module_name="own")
    try:
        assert absl_flags.FLAGS(["program", "--rounds=6"]) == ["program"]
        seen = []
        code, _, _ = run(lambda given: seen.append(given.values), "--rounds=7")
        assert (code, seen) == (0, [{"rounds": 7}])
        assert absl_flags.FLAGS.rounds == 6
        assert set(absl_flags.FLAGS) == {*before, "rounds"}
        assert absl_flags.FLAGS.is_parsed()
        # A flag of absl's own is none of ours.
        code, _, errors = run(lambda given: None, "--verbosity=1")
        assert code == 2
        assert "unknown flag --verbosity" in errors
        assert absl_logging.get_verbosity() == verbosity
    finally:
        delattr(absl_flags.FLAGS, "rounds")
        absl_flags.FLAGS.unparse_flags()


def test_two_calls_in_two_threads_do_not_see_each_others_flags():
    both = threading.Barrier(2)
    seen: dict[int, Any] = {}
    codes: dict[int, int] = {}

    def program(number: int) -> None:
        def main(given: cli.Given) -> None:
            both.wait(30)
            seen[number] = (dict(given.values), given.group(Training).rounds)
            both.wait(30)

        argv = ["program", f"--rounds={number}", f"--cohort_size={number}"]
        if number == 2:
            argv.append("--sampler=full")
            argv.remove("--cohort_size=2")
        codes[number] = cli.execute(preset(main), argv)

    threads = [threading.Thread(target=program, args=(n,)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert codes == {1: 0, 2: 0}
    assert seen == {
        1: ({"rounds": 1, "cohort_size": 1.0}, 1),
        2: ({"rounds": 2, "sampler": "full"}, 2),
    }


def test_a_refused_call_in_another_thread_changes_nothing(capsys):
    both = threading.Barrier(2)
    codes = []

    def main(given):
        both.wait(30)
        warnings.warn("of the other thread", stacklevel=1)
        both.wait(30)

    thread = threading.Thread(
        target=lambda: codes.append(cli.execute(preset(main), ["p", "--rounds=2"]))
    )
    thread.start()
    both.wait(30)
    codes.append(cli.execute(preset(), ["p", "--rounds=0"]))
    both.wait(30)
    thread.join(60)
    assert codes == [2, 0]
    errors = capsys.readouterr().err.splitlines()
    assert sorted(errors) == [
        "error: --rounds=0: must be a whole number, at least 1",
        "warning: of the other thread",
    ]


def test_warnings_are_shown_as_before_after_calls_that_overlap():
    """How warnings are shown is the same for all threads."""
    before, filters = warnings.showwarning, list(warnings.filters)
    first_began, second_began, first_ended = (threading.Event() for _ in range(3))

    def first(given):
        first_began.set()
        assert second_began.wait(30)

    def second(given):
        second_began.set()
        assert first_ended.wait(30)
        assert warnings.showwarning is not before

    def one():
        cli.execute(preset(first), ["p"])
        first_ended.set()

    def two():
        assert first_began.wait(30)
        cli.execute(preset(second), ["p"])

    threads = [threading.Thread(target=each) for each in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert first_ended.is_set()
    assert warnings.showwarning is before
    assert warnings.filters == filters


def test_an_error_of_the_user_is_one_line(run):
    def main(given):
        raise UserError("the --output_dir\n  is full")

    assert run(main) == (2, "", "error: the --output_dir is full\n")


def test_another_error_is_one_line_and_its_traceback_is_kept(
    run, tmp_path, monkeypatch
):
    def main(given):
        raise ZeroDivisionError("of nothing\nby nothing")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, output, errors = run(main)
    assert (code, output) == (1, "")
    (kept,) = tmp_path.iterdir()
    assert errors == (
        "error: ZeroDivisionError: of nothing; this error was not expected; the "
        f"traceback is in {kept}\n"
    )
    text = kept.read_text()
    assert 'raise ZeroDivisionError("of nothing' in text
    assert text.endswith("ZeroDivisionError: of nothing\nby nothing\n")
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_full_disk_is_one_line(run):
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        for name, said in (("/d/x.csv", "/d/x.csv"), (None, "a file")):

            def main(given, name=name, number=number):
                raise OSError(number, os.strerror(number), name)

            code, _, err = run(main)
            assert code == 2
            assert err == (
                f"error: {said} could not be written ({os.strerror(number)}); free "
                "space, then give the same command again to resume\n"
            )

    def bad_descriptor(given):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    code, _, err = run(bad_descriptor)
    assert code == 1
    assert err.startswith(
        "error: Bad file descriptor; this error was not expected; the "
    )
    assert err.count("\n") == 1


def test_interruptions(run):
    def by_keyboard(given):
        raise KeyboardInterrupt

    assert run(by_keyboard) == (130, "", "interrupted\n")

    def in_the_loop(given):
        raise RunInterrupted

    with pytest.raises(SystemExit) as raised:
        run(in_the_loop)
    assert raised.value.code == 130


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--sampler=all"],
            "--sampler=all: must be one of poisson, fixed, shuffled, full, "
            "min_separation, cyclic_poisson",
        ),
        (["--cohort_size=x"], "--cohort_size=x: must be a number, above 0"),
        (["--cohort_size=0"], "--cohort_size=0: must be a number, above 0"),
        (["--cohort_size="], "--cohort_size=: must be a number, above 0"),
        (["--rounds=1.5"], "--rounds=1.5: must be a whole number, at least 1"),
        (["--rounds", "x"], "--rounds=x: must be a whole number, at least 1"),
        (
            ["--cohort_siz=3"],
            "unknown flag --cohort_siz; did you mean --cohort_size? (--help lists all)",
        ),
        (["--zzzzzz=3"], "unknown flag --zzzzzz (--help lists all)"),
        (["--zzzzzz"], "unknown flag --zzzzzz (--help lists all)"),
        (
            ["three"],
            "unexpected argument 'three'; flags are given as --name=value",
        ),
        (
            ["--rounds=3", "--", "--rounds=4"],
            "unexpected argument '--rounds=4'; flags are given as --name=value",
        ),
        (
            ["--", "--help"],
            "unexpected argument '--help'; flags are given as --name=value",
        ),
        (["--rounds"], "Missing value for flag --rounds"),
        (["--tensorboard=maybe"], "--tensorboard=maybe: must be true or false"),
        (["--tensorboard="], "--tensorboard=: must be true or false"),
        (["--notensorboard=1"], "--notensorboard=1 does not take an argument"),
    ],
)
def test_bad_command_lines(run, flags, message):
    code, output, errors = run(lambda given: pytest.fail("main must not run"), *flags)
    assert (code, output) == (2, "")
    assert errors.startswith(f"error: {message}")
    assert errors.count("\n") == 1
    assert errors == f"error: {message}\n"


def test_learning_rate_is_meant_to_be_the_clients(run):
    code, _, errors = run(lambda given: None, "--learning_rate=1", groups=cli.COMMON)
    assert code == 2
    assert errors == (
        "error: unknown flag --learning_rate; did you mean --client_learning_rate, "
        "--server_learning_rate? (--help lists all)\n"
    )


def test_flags_that_are_missing_on_purpose_say_why(run):
    missing = {"seed": "the grid sets it; give --seeds", "rounds": "there are none"}
    code, _, errors = run(lambda given: None, "--seed=3", missing=missing)
    assert (code, errors) == (2, "error: --seed: the grid sets it; give --seeds\n")
    code, _, errors = run(lambda given: None, "--rounds", "3", missing=missing)
    assert (code, errors) == (2, "error: --rounds: there are none\n")
    # Only flags of the binary are suggested.
    code, _, errors = run(lambda given: None, "--see=3", missing=missing)
    assert (code, errors) == (2, "error: unknown flag --see (--help lists all)\n")


def test_warnings_are_one_line(run):
    def main(given):
        warnings.warn("beware\nof this", stacklevel=1)

    assert run(main) == (0, "", "warning: beware of this\n")
    # Python's own way of showing them is back.
    assert warnings.showwarning.__module__ != "tfl_research.cli.program"


class TestFlagFiles:
    def written(self, tmp_path, *lines, name="flags.txt"):
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
        return f"--flagfile={tmp_path / name}"

    def test_flags_from_a_file(self, run, tmp_path):
        seen = []
        file = self.written(
            tmp_path, "# A comment.", "", "--rounds=3", "--client_weight=a=1"
        )
        code, _, errors = run(
            lambda given: seen.append(given.values),
            file,
            "--client_weight=b c=2",
            "--seed=4",
        )
        assert (code, errors) == (0, "")
        assert seen == [
            {"rounds": 3, "seed": 4, "client_weight": ("a=1", "b c=2")},
        ]

    def test_later_flags_go_before_earlier_ones(self, run, tmp_path):
        seen = []
        file = self.written(tmp_path, "--rounds=3")
        for given in ([file, "--rounds=4"], ["--rounds=4", file]):
            run(lambda given: seen.append(given.values["rounds"]), *given)
        assert seen == [4, 3]

    def test_a_file_in_a_file(self, run, tmp_path):
        inner = self.written(tmp_path, "--rounds=3", name="inner")
        outer = self.written(tmp_path, inner, "--seed=4", name="outer")
        seen = []
        run(lambda given: seen.append(given.values), outer)
        assert seen == [{"rounds": 3, "seed": 4}]

    def test_a_byte_order_mark_and_windows_lines(self, run, tmp_path):
        seen = []
        (tmp_path / "f").write_bytes("\ufeff--rounds=3\r\n--seed=4\r\n".encode())
        run(lambda given: seen.append(given.values), f"--flagfile={tmp_path}/f")
        assert seen == [{"rounds": 3, "seed": 4}]

    @pytest.mark.parametrize("content", [b"\x7fELF\xff\xfe", b"--rounds=3\0", b"\x80"])
    def test_a_binary_file_is_one_line(self, run, tmp_path, content):
        (tmp_path / "binary").write_bytes(content)
        flag = f"--flagfile={tmp_path}/binary"
        code, _, errors = run(lambda given: None, flag)
        assert code == 2
        assert errors.startswith(f"error: {flag}: ")
        assert errors.count("\n") == 1

    def test_a_bad_file_is_one_line(self, run, tmp_path):
        for flag, message in (
            (
                f"--flagfile={tmp_path}/none",
                f"--flagfile={tmp_path}/none: cannot be read (No such file",
            ),
            (
                f"--flagfile={tmp_path}",
                f"--flagfile={tmp_path}: {tmp_path} is a folder, expected a file; ",
            ),
            ("--flagfile=", "--flagfile=: names no file"),
            ("--flagfile", "--flagfile: names no file"),
            (
                self.written(tmp_path, '--task="heart"', name="quotes"),
                f'{tmp_path}/quotes, line 1: --task="heart": in a flag file quotes are '
                "a part of the value; write --task=heart",
            ),
            (
                self.written(tmp_path, "", "--rounds 3", name="space"),
                f"{tmp_path}/space, line 2: --rounds 3: in a flag file the value "
                "follows '='; write --rounds=3",
            ),
            (
                self.written(tmp_path, f"--flagfile={tmp_path}/self", name="self"),
                f"{tmp_path}/self, line 1: --flagfile={tmp_path}/self: the file names "
                "itself",
            ),
            (self.written(tmp_path, "--round=3", name="a"), "unknown flag --round; "),
            (self.written(tmp_path, "--rounds=0", name="b"), "--rounds=0: must be a"),
            (self.written(tmp_path, "rounds=3", name="c"), "unexpected argument 'rou"),
        ):
            code, output, errors = run(lambda given: None, flag)
            assert (code, output) == (2, "")
            assert errors.startswith(f"error: {message}")
            assert errors.count("\n") == 1


def test_main_exits(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["program.py", "--cohort_size=0"])
    with pytest.raises(SystemExit) as raised:
        cli.main(preset())
    assert raised.value.code == 2
    assert capsys.readouterr().err == (
        "error: --cohort_size=0: must be a number, above 0\n"
    )
    monkeypatch.setattr("sys.argv", ["program.py"])
    with pytest.raises(SystemExit) as raised:
        cli.main(preset())
    assert raised.value.code == 0


class TestGiven:
    """What a parsed command line is as an experiment."""

    def given(self, *flags, **more):
        seen: list[cli.Given] = []
        groups = more.pop("groups", cli.COMMON)
        code = cli.execute(
            preset(seen.append, groups=groups, **more), ["program", *flags]
        )
        assert code == 0
        return seen[0]

    def test_fixed_by_default_and_given(self):
        found = self.given(
            "--task=heart",
            "--output_dir=a",
            "--noresume",
            "--rounds=3",
            fixed={"algorithm": "fed_prox", "sampler": "full"},
            defaults={"client_weighting": "uniform", "rounds": 9},
        )
        assert found.settings() == {
            "task": "heart",
            "rounds": 3,
            "algorithm": "fed_prox",
            "sampler": "full",
            "client_weighting": "uniform",
        }
        assert found.experiment() == Experiment(
            "heart",
            "fed_prox",
            cohorts=Cohorts("full"),
            weighting=Weighting("uniform"),
            training=Training(rounds=3),
            name="program",
        )
        assert (found.output.folder, found.output.resume) == ("a", False)
        assert found.settings(Training) == {
            k: v for k, v in found.settings().items() if k != "rounds"
        }

    def test_what_is_fixed_has_no_flag(self, capsys):
        fixed = preset(groups=cli.COMMON, fixed={"sampler": "full"})
        assert cli.execute(fixed, ["program", "--sampler=fixed"]) == 2
        assert "unknown flag --sampler" in capsys.readouterr().err

    def test_an_experiment_needs_a_task_and_a_folder(self):
        found = self.given()
        with pytest.raises(UserError, match=r"^task is missing; give one of"):
            found.experiment()
        with pytest.raises(
            UserError, match=r"^output_dir is missing; give the run's folder"
        ):
            _ = found.output

    def test_the_experiment_runs_in_the_folder(self, monkeypatch):
        ran = []
        monkeypatch.setattr(
            Experiment,
            "run",
            lambda self, folder, resume, recharge: ran.append(
                (folder, resume, recharge)
            ),
        )
        plain = cli.Preset("fed_avg", "", cli.COMMON)
        argv = ["program", "--task=heart", "--output_dir=a"]
        assert cli.execute(plain, argv) == 0
        assert cli.execute(plain, [*argv, "--resume=false"]) == 0
        assert cli.execute(plain, [*argv, "--recharge"]) == 0
        assert ran == [("a", True, False), ("a", False, False), ("a", True, True)]


def test_a_command_line_imports_no_tensorflow_before_it_runs(tmp_path):
    code = (
        "import sys\n"
        "from tfl_research import cli\n"
        "plain = cli.Preset('fed_avg', 'Doc.', cli.COMMON)\n"
        "for flags in (['--help'], ['--task=heart'], ['--task=heart', '--output_dir='\n"
        "              + sys.argv[1], '--cohort_size=9']):\n"
        "    print(cli.execute(plain, ['program', *flags]), file=sys.stderr)\n"
        "heavy = ('tensorflow', 'tensorflow_federated')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)\n"
    )
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines() == [
        "0",
        "error: --output_dir is missing; give the run's folder",
        "2",
        "error: --cohort_size=9: there are 4 clients; give at most that many",
        "2",
        "[]",
    ]
    assert not pathlib.Path(folder).exists()
