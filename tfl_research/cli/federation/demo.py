"""`scripts/federation demo`: four hospitals on this machine, from files to a report."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from tfl_research.cli.federation import (
    engines,
    hospitals,
    provision,
    provisioned_files as files,
    schema,
)
from tfl_research.cli.federation.processes import Started, ending
from tfl_research.errors import UserError
from tfl_research.federation import federation_file
from tfl_research.federation.federation_file import CARRIERS, LOCAL
from tfl_research.storage.files import atomic, user_paths

_ROOT = pathlib.Path(__file__).resolve().parents[3]
_SECONDS_TO_LISTEN = 120.0
_COMPILER = "xla"
# The coordinator's flags; --rounds is added.
_FLAGS = (
    "--task=csv",
    f"--label_column={hospitals.LABEL}",
    "--task_option=model=linear",
    "--client_steps=5",
    "--client_learning_rate=0.5",
    "--sampler=full",
    f"--client_execution=separate_{_COMPILER}",
)
# The experiment and its further flags: with privacy and secure sums, and without.
_PRIVATE = (
    "record_dp_fed_avg.py",
    "--record_noise_multiplier=2",
    # The hospitals' data are published.
    "--release_exact=train_loss",
    "--release_exact=eval_loss",
    "--release_exact=eval_accuracy",
    "--release_exact=round_seconds",
    "--secure_sums",
)
_PLAIN = ("fed_avg.py",)


def add_parser(commands: Any) -> None:
    """Adds the parser of the command to what `add_subparsers` gave."""
    parser = commands.add_parser(
        "demo",
        help="train four hospitals together, each a process with only its own file",
        description="Writes the four hospitals of the task heart as four sites, agrees "
        "on a schema, makes keys, starts a process for each site, trains with secure "
        "sums and record-level privacy, and compares the result with a simulation's. "
        "The same command continues an interrupted demonstration.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--engine",
        default=LOCAL,
        help=f"how messages travel: {', '.join(CARRIERS)} (default: {LOCAL})",
    )
    parser.add_argument(
        "--folder", help="folder of all files (default: results/federation_demo_ENGINE)"
    )
    parser.add_argument(
        "--rounds", type=int, default=10, help="rounds of the run (default: 10)"
    )
    parser.add_argument(
        "--plain",
        action="store_true",
        help="only federated averaging, without secure sums and privacy",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.engine not in CARRIERS:
        raise UserError(
            f"--engine={arguments.engine}: must be one of {', '.join(CARRIERS)}"
        )
    if arguments.rounds < 1:
        raise UserError(f"--rounds={arguments.rounds}: must be at least 1")
    kind = f"{arguments.engine}_plain" if arguments.plain else arguments.engine
    name = arguments.folder or f"results/federation_demo_{kind}"
    folder = user_paths.expanded(name).absolute()
    demo = Demo(folder, arguments.engine, arguments.rounds, plain=arguments.plain)
    return demo.run()


class Demo:
    """The demonstration in a folder; every step can be repeated.

    Args:
      folder: the folder of all files.
      engine: the engine that carries messages.
      rounds: the number of rounds of the run.
      say: prints a line.
      plain: whether the run has no secure sums and no privacy.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        engine: str,
        rounds: int,
        say: Callable[[str], None] = print,
        *,
        plain: bool = False,
    ):
        self._experiment, *self._flags = _PLAIN if plain else _PRIVATE
        self._folder, self._engine, self._rounds = folder, engine, rounds
        self._say = say
        self._logs = folder / "logs"
        self._schema = folder / "schema.json"

    @property
    def _run_folder(self) -> pathlib.Path:
        return self._folder / "run"

    def _site(self, name: str) -> pathlib.Path:
        return self._folder / files.SITES / name

    def run(self) -> int:
        """Runs the demonstration; returns the exit code."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._logs.mkdir(exist_ok=True)
        self._provision()
        for name in hospitals.NAMES:
            hospitals.write(name, self._site(name) / "data")
        self._agree()
        code = self._train()
        if code:
            self._say(f"The run ended with exit code {code}; logs are in {self._logs}.")
            return code
        return self._compare()

    def _provision(self) -> None:
        if (self._folder / files.FILE).exists():
            return
        self._command(
            "provision",
            f"--sites={','.join(hospitals.NAMES)}",
            f"--folder={self._folder}",
            f"--carrier={self._engine}",
            f"--label_column={hospitals.LABEL}",
        )
        provision.provision(
            self._folder,
            hospitals.NAMES,
            name="hospitals",
            carrier=self._engine,
            label_column=hospitals.LABEL,
            say=self._say,
        )

    def _agree(self) -> None:
        """Drafts a schema at each site, merges the drafts, and checks at each site."""
        published = self._folder / "published"
        published.mkdir(exist_ok=True)
        drafts = []
        for name in hospitals.NAMES:
            draft = published / f"{name}.json"
            drafts.append(str(draft))
            if not draft.exists():
                self._schema_step(
                    "draft",
                    f"--site={name}",
                    f"--data_dir={self._site(name) / 'data'}",
                    f"--label_column={hospitals.LABEL}",
                    f"--output={draft}",
                    log=self._logs / f"draft_{name}.txt",
                )
        if not self._schema.exists():
            self._schema_step(
                "merge",
                *drafts,
                f"--output={self._schema}",
                log=self._logs / "merge.txt",
            )
        for name in hospitals.NAMES:
            if not (self._site(name) / "data" / "schema.json").exists():
                self._schema_step(
                    "check",
                    f"--schema={self._schema}",
                    f"--data_dir={self._site(name) / 'data'}",
                    f"--label_column={hospitals.LABEL}",
                    "--install",
                    log=self._logs / f"check_{name}.txt",
                )
        coordinator = self._folder / "coordinator"
        coordinator.mkdir(exist_ok=True)
        atomic.write(coordinator / "schema.json", self._schema.read_bytes())

    def _schema_step(self, step: str, *arguments: str, log: pathlib.Path) -> None:
        """Runs a step of `schema` with its lines in a log; UserError if it fails."""
        self._command("schema", step, *arguments)
        parser = argparse.ArgumentParser(allow_abbrev=False)
        schema.add_parsers(parser.add_subparsers(dest="step"))
        parsed = parser.parse_args([step, *arguments])
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            code = parsed.run(parsed)
        log.write_text(output.getvalue(), encoding="utf-8")
        if code:
            raise UserError(
                f"schema {step} failed; remove {self._folder} to start again"
            )
        self._say(f"  {self._short(log)} has the lines of this step")

    def _train(self) -> int:
        sites = [
            Started(
                f"site {name}",
                [
                    *(sys.executable, "-m", "tfl_research.cli.site"),
                    f"--config={files.SITE_FILE}",
                ],
                folder=self._site(name),
                log=self._logs / f"{name}.log",
            )
            for name in hospitals.NAMES
        ]
        with ending(sites):
            for site, name in zip(sites, hospitals.NAMES):
                site.wait_until(
                    self._site(name) / files.SITE_SOCKET, _SECONDS_TO_LISTEN
                )
                self._say(
                    f"site {name}: process {site.pid}, lines in {self._short(site.log)}"
                )
            with self._carrier():
                path = _ROOT / "experiments" / self._experiment
                command = [
                    *(sys.executable, str(path), "--runtime=federation"),
                    f"--federation={self._folder / files.FILE}",
                    f"--data_dir={self._folder / 'coordinator'}",
                    *_FLAGS,
                    *self._flags,
                    f"--rounds={self._rounds}",
                    f"--output_dir={self._run_folder}",
                ]
                shown = [f"experiments/{self._experiment}", *command[2:]]
                self._say(f"$ scripts/run {shlex.join(shown)}")
                sys.stdout.flush()
                code = subprocess.run(command, check=False).returncode
                for site in sites:
                    if not site.is_running:
                        self._say(f"{site.name} has ended: {site.last_lines()}")
        return code

    @contextlib.contextmanager
    def _carrier(self) -> Iterator[None]:
        """Runs the engine that carries messages until the end of the block."""
        if self._engine == LOCAL:
            yield
            return
        file = federation_file.read(self._folder / files.FILE)
        with engines.carrying(file, {n: self._site(n) for n in hospitals.NAMES}):
            yield

    def _compare(self) -> int:
        """Simulates the run on all files in one folder, as only a demo can do."""
        # As in the experiments: TensorFlow prints start-up notices as errors.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", "pkg_resources is deprecated")
        from tfl_research.experiment.at_sites import compare

        pooled = self._folder / "simulation" / "data"
        for name in hospitals.NAMES:
            hospitals.write(name, pooled)
        shutil.copyfile(self._schema, pooled / "schema.json")
        log = self._logs / "simulation.txt"
        self._say(f"simulating the same run, lines in {self._short(log)}")
        with log.open("a", encoding="utf-8") as stream:
            simulated = compare.simulate(
                self._run_folder,
                self._folder / "simulation" / "run",
                compiler=_COMPILER,
                site_of={n: self._site(n) / files.SITE_STATE for n in hospitals.NAMES},
                changes={"data_dir": str(pooled)},
                stream=stream,
            )
        differences = compare.differences(self._run_folder, simulated)
        left_out = compare.only_in_simulation(self._run_folder, simulated)
        if left_out:
            self._say(
                f"not compared: {', '.join(left_out)}, because they need all "
                "hospitals' predictions in one place"
            )
        for difference in differences:
            self._say(f"differs from the simulation: {difference}")
        here, there = (compare.median_seconds(f) for f in (self._run_folder, simulated))
        if here is not None and there is not None:
            self._say(
                f"a round took {1000 * here:.0f} ms here and {1000 * there:.0f} ms in "
                "the simulation (medians, without the first round)"
            )
        self._say(f"report: {self._run_folder / 'report.html'}")
        self._say(f"results: {self._run_folder}; sites: {self._folder / 'sites'}")
        if differences:
            self._say("The result is NOT the simulation's.")
            return 1
        self._say(
            "The result equals the simulation's to the last bit: weights, metrics and "
            "ledgers."
        )
        return 0

    def _command(self, *arguments: str) -> None:
        self._say(f"$ scripts/federation {shlex.join(arguments)}")

    def _short(self, path: pathlib.Path) -> str:
        return str(path.relative_to(self._folder.parent))
