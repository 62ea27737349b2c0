"""The coordinator's side of a run: task, engine and evaluation."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import secrets
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Optional

from tfl_research.errors import SettingError, UserError
from tfl_research.experiment.description import Description
from tfl_research.experiment.federated import shared
from tfl_research.experiment.federated.lines import Lines
from tfl_research.federation import federation_file
from tfl_research.federation.asked_round import ReportSpec, Restarts
from tfl_research.federation.facts import AllFacts
from tfl_research.federation.federation_file import FederationFile
from tfl_research.federation.sites import Sites, SumsOfSites
from tfl_research.federation.wire import questions
from tfl_research.federation.wire.carriers import PATIENCE, Carrier, LocalCarrier
from tfl_research.federation.wire.exchange import Exchange
from tfl_research.federation.wire.relay_carrier import RelayCarrier
from tfl_research.storage import CheckpointStore, RunFolder
from tfl_research.storage.files import atomic
from tfl_research.tasks import Task

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from tfl_research.experiment.setup import Setup
    from tfl_research.federation.engine import FederationEngine
    from tfl_research.federation.evaluator import FederatedEvaluator

FOLDER = "federation"
# Lines about sites, if they are not printed.
LINES_FILE = "lines.txt"
# Seconds between two checks of which sites are connected.
_PAUSE = 0.2


def _carrier(file: FederationFile, say: Callable[[str], None]) -> Carrier:
    # A site that is started again comes back within this time.
    patience = min(PATIENCE, file.round_deadline / 10)
    if file.carrier == federation_file.LOCAL:
        return LocalCarrier(file.sockets(), say, patience=patience)
    return RelayCarrier(file.coordinator_socket, say, patience=patience)


@contextlib.contextmanager
def opened_sites(
    file: FederationFile,
    run: str,
    sequence_path: Optional[pathlib.Path],
    say: Callable[[str], None],
    sums: Optional[SumsOfSites] = None,
    tells_values: bool = False,
) -> Iterator[Sites]:
    """Connections to the sites of a federation.

    Args:
      file: the content of federation.toml.
      run: the run's id.
      sequence_path: the file that keeps the number of the next request; None for a
        question before the run.
      say: prints a line for the user.
      sums: makes the secure sums of the run.
      tells_values: whether printed lines may show values that clients report.

    Raises:
      UserError: a site does not connect in time.
    """
    carrier = _carrier(file, say)
    try:
        _wait_for_all(carrier, file, say)
        yield Sites(
            Exchange(carrier, file.keys(), run, sequence_path, say),
            file.site_names,
            round_deadline=file.round_deadline,
            start_deadline=file.start_deadline,
            say=say,
            sums=sums,
            tells_values=tells_values,
        )
    finally:
        carrier.close()


def _wait_for_all(
    carrier: Carrier, file: FederationFile, say: Callable[[str], None]
) -> None:
    """Waits until all sites are connected, for at most the start's deadline.

    Raises:
      UserError: a site is not connected.
    """
    end = time.monotonic() + file.start_deadline
    told = False
    while True:
        missing = [name for name in file.site_names if name not in carrier.sites]
        if not missing:
            return
        if not told:
            say(
                f"waits up to {file.start_deadline:g} s for site {', '.join(missing)}; "
                "start it with scripts/site --config=site.toml"
            )
            told = True
        if time.monotonic() >= end:
            raise UserError(
                f"site {', '.join(missing)} does not answer; start it with "
                "scripts/site --config=site.toml, then give the same command again"
            )
        time.sleep(_PAUSE)


def described(experiment: Description) -> tuple[Task, AllFacts]:
    """Returns the task of a federation's clients, and the sites' facts.

    Raises:
      SettingError: a setting is only for simulations, or sites cannot build the task.
      UserError: a site refuses or does not answer.
    """
    shared.check(experiment)
    task = shared.blueprint(experiment)
    file = file_of(experiment)
    _remove_old_questions(file.folder / "questions")
    with opened_sites(file, questions.new_id(), None, Lines()) as sites:
        facts = sites.facts(
            shared.settings(experiment), {shared.SOURCES: shared.source_digest()}
        )
    return shared.of_all_sites(task, facts), facts


def _remove_old_questions(folder: pathlib.Path) -> None:
    """Removes what earlier versions of a killed coordinator left beside the file."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{questions.PREFIX}*"):
            path.unlink()
        folder.rmdir()


def file_of(experiment: Description) -> FederationFile:
    """Reads the experiment's federation.toml."""
    path = experiment.runtime.federation
    if path is None:
        raise TypeError("an experiment without federation.toml")
    return federation_file.read(pathlib.Path(path))


class Coordinated:
    """The engine and the evaluator of a run whose data stay at sites.

    Attributes:
      engine: executes the rounds.
      evaluator: evaluates models.
      task: the task of the run. Its metric for the best model is one that the evaluator
        computes.

    Args:
      setup: the setup of the run, with facts of the sites.
      process: the process of the run.
      folder: the folder of the run.
      opened: the exit stack that closes the connections.
      tells_who: whether printed lines may show who takes part in a round.
    """

    def __init__(
        self,
        setup: Setup,
        process: tff.templates.IterativeProcess,
        folder: RunFolder,
        opened: contextlib.ExitStack,
        *,
        tells_who: bool = True,
    ):
        from tfl_research import runtime
        from tfl_research.federation.engine import FederationEngine, Rules
        from tfl_research.federation.evaluator import FederatedEvaluator
        from tfl_research.federation.kept_totals import KeptTotals
        from tfl_research.federation.secure_sums import VectorSpec
        from tfl_research.federation.summing import SecureSums
        from tfl_research.processes.client_states import POSITION
        from tfl_research.runtime.rounds.separate import SeparateProcess

        experiment, facts = setup.experiment, setup.facts
        if facts is None:
            raise TypeError("expected what the sites tell of themselves")
        say = Lines()
        own = folder.path / FOLDER
        own.mkdir(mode=0o700, exist_ok=True)
        file = file_of(experiment)
        digests = {
            **runtime.computation_digests(process),
            shared.SOURCES: shared.source_digest(),
        }
        execution = experiment.runtime.client_execution
        prepared = SeparateProcess(
            process, None if execution == "auto" else execution.partition("_")[2]
        )
        kept = prepared.kept_positions(POSITION)
        secure = experiment.secure_sums.secure_sums
        run = run_id(own)
        layout = prepared.secure_layout if secure else []
        sums = None
        if secure:
            vectors = [VectorSpec(shape, dtype.name, m) for dtype, shape, m in layout]
            plan = setup.user_level
            shares = None if plan is None else plan.distributed
            least = 1 if shares is None else shares.minimum_cohort_size
            noised = process.client_secrets or setup.record_level is not None
            sums = SecureSums(run, vectors, own, say, least, noised)
        self._sums = sums
        sites = opened.enter_context(
            opened_sites(
                file, run, own / "sequence", say, sums, experiment.privacy is None
            )
        )
        self._sites = sites
        plain = len(prepared.report_layout) - len(layout)
        moduli = [0] * plain + [modulus for _, _, modulus in layout]
        sites.begin(
            shared.settings(experiment),
            facts,
            compiler=prepared.compiler,
            digests=digests,
            specs=[
                ReportSpec(
                    dtype, shape, kept=position in kept, modulus=moduli[position]
                )
                for position, (dtype, shape) in enumerate(prepared.report_layout)
            ],
        )
        self.totals = KeptTotals(own / "totals", shared.repeatable_rounds(experiment))
        # The run may be ended at sites in any case, since a site begins an ended run
        # again when it gets a request.
        opened.callback(sites.end)
        _say_if_rule_skips(setup, say)
        self.engine: FederationEngine = FederationEngine(
            prepared,
            sites,
            self.totals,
            Rules(
                experiment.silos.minimum_clients,
                secure,
                kept,
                exchanges=experiment.chosen_algorithm.EXCHANGES,
            ),
            say,
        )
        opened.enter_context(self.engine)
        self.evaluator: FederatedEvaluator = FederatedEvaluator(
            setup.task,
            sites,
            facts.site_of,
            setup.client_weights,
            say,
            self.totals.state_rounds,
        )
        self.task = _with_selection(
            setup.task, self.evaluator, experiment.training.selection_metric, say
        )
        if not tells_who:
            say.keep(own / LINES_FILE)

    def goes_on(self, folder: RunFolder, restarts: int) -> None:
        """Continues the run after its folder has accepted the start.

        Args:
          folder: the folder of the run.
          restarts: number of times that the run has begun again with new noise.
        """
        self.totals.attempt = restarts
        if self._sums is not None:
            self._sums.restarts = restarts
        checkpoints = CheckpointStore(
            folder.checkpoints_path, key=folder.checkpoint_key
        )
        self.totals.go_back(checkpoints.newest()[0])
        self._sites.restarted(Restarts(restarts, folder.attempts.after))


def _say_if_rule_skips(setup: Setup, say: Callable[[str], None]) -> None:
    """Prints that a robust rule skips rounds with few clients, if there may be any."""
    aggregator = setup.experiment.chosen_aggregator
    least = setup.experiment.silos.minimum_clients
    if aggregator is None or setup.reporting.minimum_cohort_size <= least:
        return
    try:
        aggregator.check_cohort(least, setup.reporting.maximum_cohort_size)
    except SettingError as error:
        say(
            "a round in which few clients answer does not change the model, and is "
            f"charged if the run is private: {error.for_command_line}; or give a "
            "larger --minimum_clients"
        )


def _with_selection(
    task: Task,
    evaluator: FederatedEvaluator,
    given: Optional[str],
    say: Callable[[str], None],
) -> Task:
    """Returns the task with a selection metric that sites compute; prints a change."""
    if given is not None or task.selection_metric in evaluator.metrics:
        return task
    found = "accuracy" if "accuracy" in evaluator.metrics else "loss"
    say(
        f"the best model is chosen by {found}, because the task's own metric, "
        f"{task.selection_metric}, needs all clients' predictions"
    )
    return dataclasses.replace(task, selection_metric=found)


def run_id(folder: pathlib.Path) -> str:
    """Returns the random id by which the sites know a run; makes it once.

    Raises:
      UserError: the file of the id is damaged.
    """
    path = folder / "run_id"
    if not path.exists():
        atomic.write(path, f"{secrets.token_hex(16)}\n".encode(), mode=0o600)
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if len(text) != 32 or set(text) - set("0123456789abcdef"):
        raise UserError(
            f"{path} is damaged; restore it, or choose another --output_dir"
        )
    return text
