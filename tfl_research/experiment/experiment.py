"""One federated experiment: described, checked as a whole, run and resumed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Optional, TextIO, Union

from tfl_research.experiment import execution, setup
from tfl_research.experiment.description import Description

if TYPE_CHECKING:
    from tfl_research.experiment.result import Result
    from tfl_research.program import RoundReport


@dataclasses.dataclass(frozen=True, repr=False)
class Experiment(Description):
    """A federated experiment: what is trained, on whose data, how, and how privately.

        experiment = Experiment(
            task="shakespeare",
            client_optimizer=SGD(1.0),
            server_optimizer=SGD(2.0, momentum=0.9),
            cohorts=Cohorts("poisson", cohort_size=120),
            privacy=UserLevelPrivacy("gaussian", l2_norm_clip=0.3, target_epsilon=8),
            training=Training(rounds=60),
        )
        experiment.check()
        result = experiment.run("results/mine")
        result.metrics, result.epsilon, result.model()

    The binaries in `experiments/` describe such an object by flags, which are called
    like the fields of its parts. A run of either has the same folder.

    Attributes:
      task: a task by name, with options (`TaskChoice`), or of one's own
        (`tasks.from_arrays`).
      algorithm: a registered algorithm by name, or its settings
        (`algorithms.Scaffold()`).
      client_optimizer: of the local steps; its state is new in each round.
      server_optimizer: takes the aggregated update for a negative gradient (FedOpt).
      batches: how a client's examples become local steps.
      cohorts: who takes part in a round.
      weighting: how much a client's update counts.
      privacy: user-level, record-level, or None.
      aggregator: a registered aggregator by name, its settings
        (`aggregators.Krum(byzantine=2)`), or a TFF aggregation factory of one's own.
        With user-level privacy, where a mechanism noises a sum at the server, only
        aggregators that keep its sensitivity are accepted.
      compression: a code for the clients' updates.
      devices: simulated devices in the place of clients that are always there.
      silos: clients that are down in some rounds.
      attack: what malicious clients do, in a simulation.
      audit: canary clients that test the privacy guarantee, or None.
      baseline: training on one silo alone, or on pooled data.
      personal_evaluation: whether every client's personal model is evaluated when the
        rounds are done.
      training: number of rounds, seed, evaluation, checkpoints.
      runtime: what executes the rounds.
      callbacks: see every round and may stop the run.
      name: of the experiment; a folder is resumed by the experiment of the same name.

    Raises:
      SettingError: a part that is not of its kind, or an unknown name.
    """

    def check(self) -> None:
        """Refuses what cannot run, before anything is written.

        Reads the data and calibrates the noise. TensorFlow is imported only where the
        shape of the model decides (distributed mechanisms, algorithms that take models
        apart).

        Raises:
          SettingError: with what does not go together, and the fix.
        """
        setup.prepare(self)

    def run(
        self,
        folder: Union[str, os.PathLike[str]],
        *,
        resume: bool = True,
        stream: Optional[TextIO] = None,
    ) -> Result:
        """Runs the experiment, or goes on with it where the folder has begun it.

        Args:
          folder: of the run; made when missing. A run that was stopped anywhere ends
            with the same files as one that was not.
          resume: whether a folder that holds this run already is accepted.
          stream: where progress is printed; standard output by default.

        Raises:
          UserError: see `check`; the folder holds another experiment, or was begun
            with another computation or privacy plan; names what differs.
          TrainingDivergedError: the aggregated model is not finite.
          RunInterrupted: SIGINT or SIGTERM in the main thread.
        """
        return execution.run(self, folder, resume=resume, stream=stream)

    def rounds(
        self,
        folder: Union[str, os.PathLike[str]],
        *,
        resume: bool = True,
        stream: Optional[TextIO] = None,
    ) -> Iterator[RoundReport]:
        """`run`, a round at a time, for a loop of one's own.

            for report in experiment.rounds("results/mine"):
                print(report.round_number, report.epsilon)

        A loop that is left early leaves a folder that is resumed like any other.
        """
        return execution.rounds(self, folder, resume=resume, stream=stream)
