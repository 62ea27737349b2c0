"""The further steps of an experiment with record-level privacy; no TensorFlow.

What the flags promise is worked out and checked before a run's folder is opened; the
account is opened in the folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Optional

from tfl_research import privacy
from tfl_research.data import PoissonBatching
from tfl_research.devices import UnreliableSilos
from tfl_research.flags import noise_seed, shared_ledgers
from tfl_research.flags.assembly import Setup
from tfl_research.flags.declare import FlagError
from tfl_research.flags.record_privacy_flags import RecordPrivacyFlags
from tfl_research.flags.stated import stated
from tfl_research.flags.task_flags import TaskFlags
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger.statement import (
    SharedTotal,
    opening_lines,
    privacy_statement,
)
from tfl_research.sampling import Sampler
from tfl_research.storage import RunFolder, atomic

# Each client's ε after each round, in the run's folder.
CLIENT_EPSILON_FILE = "client_epsilon.csv"


@dataclasses.dataclass(frozen=True)
class RecordPlan:
    """What a run with record-level privacy promises.

    Attributes:
      flags: as given.
      event: of each round, with the noise given or calibrated.
      deltas: δ_k of each client, as given or by its number of records.
      accountant: "pld" or "rdp".
    """

    flags: RecordPrivacyFlags
    event: privacy.RecordEvent
    deltas: tuple[float, ...]
    accountant: str

    def hparams(self) -> dict[str, Any]:
        """What was derived from the flags, for hparams.json."""
        return {
            "resolved_noise_multiplier": self.event.noise_multiplier,
            "resolved_delta": max(self.deltas),
            "resolved_accountant": self.accountant,
            "records_by_client": dict(self.event.clients),
        }


def plan(flags: RecordPrivacyFlags, parts: Setup) -> tuple[RecordPlan, Setup]:
    """Calibrates the noise and checks the promise; warns of a large δ.

    Returns:
      What is promised, and `parts` with local steps drawn by Poisson sampling.

    Raises:
      FlagError: flags that do not fit, a target or budget that is out of reach.
    """
    task_flags = TaskFlags.get()
    flags.check_with(task_flags, parts.client)
    noise_seed.check_not_shared(parts.run, "record_ledgers", flags.record_ledgers)
    batching = _batching(flags, flags.steps(task_flags), parts)
    parts = dataclasses.replace(parts, task=parts.task.with_batching(batching))
    given = flags.record_noise_multiplier
    event = privacy.RecordEvent.of(1.0 if given is None else given, parts.task.train)
    deltas = privacy.default_record_deltas(event)
    if flags.record_delta is not None:
        deltas = (flags.record_delta,) * len(deltas)
    _warn_of_deltas(event, deltas)
    accountant = privacy.resolve_accountant(flags.record_accountant, event)
    if given is None:
        event = dataclasses.replace(
            event,
            noise_multiplier=_calibrated(flags, event, parts, deltas, accountant),
        )
    promise = RecordPlan(flags, event, deltas, accountant)
    if flags.record_budget_epsilon is not None:
        _check_budget(promise, flags.record_budget_epsilon)
    shared_ledgers.check_clients(flags.record_ledgers, event, deltas)
    return promise, parts


def _batching(flags: RecordPrivacyFlags, steps: int, parts: Setup) -> PoissonBatching:
    expected = flags.record_batch_size
    if expected is None:
        expected = float(parts.task.train.batching.batch_size)
    if flags.microbatch_size > max(1.0, expected):
        raise flags.refused(
            "microbatch_size",
            f"must be at most the expected batch size {expected:g}; lower it or raise "
            "--record_batch_size",
        )
    return PoissonBatching(steps, expected, flags.microbatch_size)


def _calibrated(
    flags: RecordPrivacyFlags,
    event: privacy.RecordEvent,
    parts: Setup,
    deltas: tuple[float, ...],
    accountant: str,
) -> float:
    target: Optional[float] = flags.record_target_epsilon
    try:
        return privacy.calibrate_record_noise(
            event, float(target or 0.0), parts.run.rounds, deltas, accountant
        )
    except ValueError as error:
        raise flags.refused("record_target_epsilon", str(error)) from error


def _warn_of_deltas(event: privacy.RecordEvent, deltas: tuple[float, ...]) -> None:
    for (name, records), delta in zip(event.clients, deltas):
        if records and delta * records >= 1:
            warnings.warn(
                f"delta = {delta:g} is at least 1/records of client {name!r} "
                f"({records} records): publishing one random record in full would "
                "satisfy such a guarantee; use a smaller --record_delta",
                stacklevel=3,
            )
            return


def _check_budget(promise: RecordPlan, budget: float) -> None:
    first = max(
        privacy.EpsilonCurve(
            promise.event.of_client(index), delta, promise.accountant
        ).at(1)
        for index, delta in enumerate(promise.deltas)
    )
    if first > budget:
        raise promise.flags.refused(
            "record_budget_epsilon",
            f"the first round alone costs a client's records ε = {first:.4g}; raise "
            "it, or add noise with --record_noise_multiplier",
        )


def secret_cohort_seed(folder: RunFolder) -> int:
    """Seed of which records take part in which local step, and of the noise.

    Amplification by sampling counts on nobody knowing it, so it comes from the run's
    secret seed and not from --seed; by SHA-256, so that it shares no stream with what
    else is drawn from that.
    """
    digest = hashlib.sha256(b"local steps %d" % folder.run_seed).digest()
    return int.from_bytes(digest, "big")


@contextlib.contextmanager
def open_account(
    promise: RecordPlan, parts: Setup, folder: RunFolder
) -> Iterator[privacy.RecordAccount]:
    """Opens the run's ledger, each client's of --record_ledgers, and the table of ε.

    Prints what the run promises as its first lines, and writes the whole statement
    to privacy.txt, again when the run ends.

    Raises:
      FlagError: the ledger is damaged, or in use, or of another run.
    """
    with contextlib.ExitStack() as opened:
        try:
            own = opened.enter_context(privacy.Ledger(folder.ledger_path))
            shared = _client_ledgers(promise, folder, own)
            if shared is not None:
                opened.enter_context(shared)
            account = privacy.RecordAccount(
                own,
                promise.event,
                promise.deltas,
                promise.accountant,
                planned_rounds=parts.run.rounds,
                budget_epsilon=promise.flags.record_budget_epsilon,
                table_path=folder.path / CLIENT_EPSILON_FILE,
                shared=shared,
            )
        except ValueError as error:
            raise FlagError(str(error)) from error
        sys.stdout.write(_first_lines(account, parts.run.rounds))

        def write() -> None:
            _write_statement(promise, parts, folder, account)

        with stated(folder.privacy_path, own, write):
            try:
                yield account
            except privacy.ChargeError as error:
                raise FlagError(str(error)) from error


def _client_ledgers(
    promise: RecordPlan, folder: RunFolder, own: privacy.Ledger
) -> Optional[privacy.ClientLedgers]:
    if promise.flags.record_ledgers is None:
        return None
    if any(event != promise.event for event in own.events):
        # Refused by the account, in words that fit.
        return None
    return privacy.ClientLedgers(
        promise.flags.record_ledgers,
        privacy.run_id(folder.path),
        promise.event,
        promise.deltas,
        [promise.event] * len(own),
    )


def _silo_notes(sampler: Sampler) -> list[str]:
    if not isinstance(sampler, UnreliableSilos):
        return []
    return [
        f"A client is down in a round with probability {sampler.drop_out:g}, whatever "
        f"its data are, and a round with fewer than {sampler.minimum} reports is "
        "abandoned. Every client is charged for every round all the same: what was "
        "sent in an abandoned round has been seen."
    ]


def _first_lines(account: privacy.RecordAccount, rounds: int) -> str:
    lines = opening_lines(
        account.event,
        delta=account.delta,
        accountant=account.accountant,
        planned_rounds=None,
        budget_epsilon=account.budget_epsilon,
    )
    epsilons = account.client_epsilons(rounds)
    names = [name for name, _ in account.event.clients]
    worst = max(range(len(names)), key=epsilons.__getitem__)
    planned = (
        f"Planned: ε = {rounded_up(min(epsilons))} to {rounded_up(max(epsilons))} "
        f"after {rounds} rounds, the largest at {names[worst]} with δ = "
        f"{rounded_up(account.deltas[worst])} "
        f"({account.accountant.upper()} accountant); each client's is in "
        f"{CLIENT_EPSILON_FILE}."
    )
    total = account.shared_epsilon(rounds)
    together = []
    if account.shared is not None and total is not None:
        together.append(
            f"Together with the other runs of {account.shared.path}: ε up to "
            f"{rounded_up(total)} for a client's records."
        )
    return "".join(f"privacy: {line}\n" for line in (*lines, planned, *together))


def _shared_total(account: privacy.RecordAccount, done: int) -> Optional[SharedTotal]:
    """Of the client with the largest ε, at its δ, which the largest δ implies."""
    epsilon = account.shared_epsilon(done)
    if not isinstance(account.shared, privacy.ClientLedgers) or epsilon is None:
        return None
    runs, rounds = account.shared.runs_and_rounds
    return SharedTotal(str(account.shared.path), runs, rounds, epsilon)


def _write_statement(
    promise: RecordPlan, parts: Setup, folder: RunFolder, account: privacy.RecordAccount
) -> None:
    done = len(account.ledger)
    flags = promise.flags
    outside = noise_seed.outside_lines(folder)
    if parts.run.withhold_train_metrics:
        outside.append("Train metrics do not leave the clients in this run.")
    text = privacy_statement(
        account.event,
        delta=account.delta,
        accountant=account.accountant,
        spent=account.groups(done),
        planned_rounds=account.planned_rounds,
        budget_epsilon=account.budget_epsilon,
        shared=_shared_total(account, done),
        outside=outside,
        notes=[
            f"l2 norm clip of a gradient: {flags.record_l2_norm_clip:g}. Clients weigh "
            f"in the server's mean by {parts.weighting.client_weighting}, their "
            "numbers of records being public; what the server does with the updates, "
            "thresholds from their norms included, costs no further privacy.",
            *_silo_notes(parts.sampler),
            *account.statement_notes(done or parts.run.rounds),
        ],
    )
    atomic.write(folder.privacy_path, text.encode())
