"""Runs an experiment: opens its folder, account, process and engine; runs rounds."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Optional, TextIO, Union

from tfl_research import deferred_imports
from tfl_research.aggregators import RuleSettings, TrustedRoot
from tfl_research.devices import with_message_bytes
from tfl_research.errors import UserError
from tfl_research.experiment import (
    changed_settings,
    flattening,
    setup as setups,
)
from tfl_research.experiment.description import Description
from tfl_research.experiment.federated import coordinator
from tfl_research.experiment.private import (
    fingerprints,
    recharging,
    record_level,
    user_level,
)
from tfl_research.experiment.private.releases import released
from tfl_research.experiment.private.statement_file import kept_up_to_date
from tfl_research.experiment.running import engines
from tfl_research.experiment.running.draws import Draws
from tfl_research.experiment.setup import Setup
from tfl_research.program import progress
from tfl_research.sampling import Sampler
from tfl_research.storage import RunFolder, folder_check
from tfl_research.storage.files import user_paths

if TYPE_CHECKING:
    from tfl_research.experiment.running.result import Result
    from tfl_research.processes import FederatedProcess
    from tfl_research.program import RoundReport, RunResult

Folder = Union[str, os.PathLike[str]]


@dataclasses.dataclass(frozen=True)
class Opened:
    """A run that is ready for its rounds.

    Attributes:
      setup: the setup of the experiment.
      folder: the folder of the run, locked.
      account: the account that charges the rounds, or None.
      cohorts: the cohorts of the rounds.
      arguments: the arguments for `program.run` and `program.rounds`.
    """

    setup: Setup
    folder: RunFolder
    account: Any
    cohorts: Sampler
    arguments: dict[str, Any]


def run(
    experiment: Description,
    folder: Folder,
    *,
    resume: bool = True,
    recharge: bool = False,
    stream: Optional[TextIO] = None,
    draws: Optional[Draws] = None,
) -> Result:
    """Runs an experiment in a folder to its end, and returns the result.

    Args:
      experiment, folder, resume, recharge, stream: see `Experiment.run`.
      draws: the draws of another run; this run then repeats the other run's noise and
        local steps.
    """
    from tfl_research import program

    with _opened(experiment, folder, resume, recharge, stream, draws) as opened:
        return _result(opened, program.run(**opened.arguments), stream)


def rounds(
    experiment: Description,
    folder: Folder,
    *,
    resume: bool = True,
    recharge: bool = False,
    stream: Optional[TextIO] = None,
) -> Generator[RoundReport, None, Result]:
    """Runs an experiment one round at a time, for a user's own loop."""
    from tfl_research import program

    with _opened(experiment, folder, resume, recharge, stream) as opened:
        ended = yield from program.rounds(**opened.arguments)
        return _result(opened, ended, stream)


def _result(opened: Opened, ended: RunResult, stream: Optional[TextIO]) -> Result:
    """Returns the result of a complete run; an audit is evaluated first."""
    from tfl_research.experiment.running.result import Result

    experiment, audited = opened.setup.experiment, None
    if experiment.audit is not None:
        from tfl_research.experiment.private import audited as audits

        audited = audits.examine(
            opened.setup, opened.account, ended, opened.cohorts, stream
        )
    return Result(experiment, opened.setup.task, ended, audited)


@contextlib.contextmanager
def _opened(
    experiment: Description,
    path: Folder,
    resume: bool,
    recharge: bool,
    stream: Optional[TextIO],
    draws: Optional[Draws] = None,
) -> Iterator[Opened]:
    folder_check.check_path(path)
    out = stream or sys.stdout
    if experiment.runtime.accelerator != "none":
        # Checked before data are read, and before the folder has files of the run.
        progress.stage(out, "importing TensorFlow")
        deferred_imports.import_tff()
        engines.use_devices(experiment.runtime, out, user_paths.expanded(path))
    progress.stage(out, "reading the data")
    try:
        with deferred_imports.loading_libraries():
            setup = setups.prepare(experiment)
    finally:
        progress.stage(out)
    if recharge and setup.plan is None:
        raise UserError(
            "--recharge: a run without privacy charges nothing; leave it out"
        )
    data = "" if setup.plan is None else fingerprints.data_digest(setup)
    training = experiment.training
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(
            RunFolder.open(
                path,
                setup.hparams(),
                experiment=experiment.name,
                resume=resume,
                run_seed=None if training.run_seed is None else int(training.run_seed),
                plan=None if setup.plan is None else setup.plan.record(),
                changed_from=changed_settings.changed_from(experiment),
            )
        )
        account = stack.enter_context(_account(setup, folder, out))
        # Everything is checked, so TensorFlow may be imported from here on.
        progress.stage(out, "importing TensorFlow and building the process")
        stack.callback(progress.stage, out)
        deferred_imports.import_tff()
        from tfl_research import program
        from tfl_research.experiment.running import building, noise_keys

        if experiment.runtime.accelerator == "none":
            engines.use_devices(
                experiment.runtime,
                out,
                folder.path,
                _clients_alone(setup),
            )
        if experiment.audit is not None:
            from tfl_research.experiment.private import audited

            audited.warn_of_sabotage(experiment.audit, folder)
        if setup.plan is not None:
            fingerprints.check_examples(setup)
        # The file exists only if an earlier start tested the noise and was not refused.
        judged = folder.computation_path.exists() and not recharge
        building.check_noise(setup, judged=judged)
        process = building.process(setup, noise_seed=noise_keys.PUBLIC_SEED)
        noise_keys.check_repeatable(setup, process)
        building.check_sums(setup, process)
        with engines.worker_failures(experiment.runtime):
            coordinated: Optional[coordinator.Coordinated] = None
            if setup.facts is not None:
                coordinated = coordinator.Coordinated(
                    setup, process, folder, stack, tells_who=released.tells_who(setup)
                )
                public: Any = coordinated.engine
            else:
                public = stack.enter_context(
                    engines.build(experiment.runtime, process, folder, setup.task.train)
                )
            fingerprint = fingerprints.of_run(
                setup, noise_keys.digests(setup, process), data
            )
            in_state = noise_keys.in_state(setup, process)
            if recharge:
                check = functools.partial(noise_keys.check_recharge, setup, in_state)
                recharging.recharge(folder, account, fingerprint, check, out)
            folder.check_computation(
                fingerprint,
                charged_rounds=0 if account is None else len(account.ledger),
                restarts=recharging.restarts(account),
            )
            if coordinated is not None:
                coordinated.goes_on(folder, recharging.restarts(account))
                # The statement names the metric that chooses the best model.
                setup = dataclasses.replace(setup, task=coordinated.task)
            if draws is None:
                draws = Draws(folder.attempts.key(folder.run_seed))
            setup = draws.applied_to(setup)
            engine = noise_keys.engine(
                setup, draws.key, folder, public, in_state, stack
            )
            cohorts = setups.secret_cohorts(
                setup, folder.run_seed, folder.attempts.later_seeds(folder.run_seed)
            )
            # In a private run, an update has as many scalars as the model that is sent.
            dimension = -(-process.download_bytes // 4)
            write = _statement_writer(setup, folder, account, dimension)
            if write is not None:
                stack.enter_context(
                    kept_up_to_date(folder.privacy_path, account.ledger, write)
                )
            progress.stage(out)
            callbacks = list(experiment.callbacks)
            if training.tensorboard:
                callbacks.insert(0, program.TensorBoard())
            yield Opened(
                setup,
                folder,
                account,
                cohorts,
                {
                    "task": setup.task,
                    "engine": engine,
                    "process_plan": process.plan,
                    # Clients of a federation keep their states at their sites.
                    "client_states": None if coordinated else process.client_states,
                    "evaluator": coordinated.evaluator if coordinated else None,
                    "sampler": with_message_bytes(cohorts, process.message_bytes),
                    "folder": folder,
                    "config": _config(setup, draws, process),
                    "account": account,
                    "message_bytes": process.message_bytes,
                    "personal_evaluator": building.personal_evaluator(setup),
                    "callbacks": callbacks,
                    "releases": released.of_run(setup, draws.key, write),
                    "stream": stream,
                    # The toolkit's initial states are functions of the seed.
                    "states": program.StateOptions(keep_initial_state=False),
                },
            )


def _clients_alone(setup: Setup) -> Optional[float]:
    """Returns the number of clients of a round if they do nearly all of its work.

    The result is None otherwise, since a server's rule over all updates, and its noise,
    may need all cores.
    """
    experiment = setup.experiment
    chosen = experiment.chosen_aggregator
    sums = chosen is not None and not isinstance(chosen, (RuleSettings, TrustedRoot))
    if setup.user_level is not None or not (sums and experiment.attack.is_none):
        return None
    return setup.reporting.expected_cohort_size


def _config(setup: Setup, draws: Draws, process: FederatedProcess) -> Any:
    config = setup.experiment.training.config()
    at_sites = setup.facts is not None
    has_secrets = process.client_secrets and not at_sites
    return dataclasses.replace(
        config,
        # At a coordinator, sites draw from their own secrets.
        cohort_seed=None if at_sites else draws.cohort_seed(setup),
        client_secret=draws.client_secrets if has_secrets else None,
        client_weights=setup.client_weights,
        evaluate_separately=setup.experiment.runtime.separately,
        own_server_parts=flattening.own_server_parts(setup.experiment),
    )


def _statement_writer(
    setup: Setup, folder: RunFolder, account: Any, dimension: int
) -> Optional[Callable[[], None]]:
    """Returns a function that writes a run's privacy statement; None without privacy.

    Args:
      setup: the setup of the run.
      folder: the folder of the run.
      account: the account of the run.
      dimension: number of scalars in an update.
    """
    if setup.user_level is not None:
        return functools.partial(
            *(user_level.write_statement, setup, setup.user_level),
            *(folder, account, dimension),
        )
    if setup.record_level is not None:
        return functools.partial(
            *(record_level.write_statement, setup, setup.record_level),
            *(folder, account, dimension),
        )
    return None


@contextlib.contextmanager
def _account(setup: Setup, folder: RunFolder, out: TextIO) -> Iterator[Any]:
    if setup.user_level is not None:
        with user_level.opened_account(setup, setup.user_level, folder, out) as account:
            yield account
    elif setup.record_level is not None:
        with record_level.opened_account(
            setup, setup.record_level, folder, out
        ) as account:
            yield account
    else:
        yield None
