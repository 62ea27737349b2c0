"""One federated experiment: described, checked as a whole, run and resumed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Generator
from typing import TYPE_CHECKING, Optional, TextIO, Union

from tfl_research.experiment import setup
from tfl_research.experiment.description import Description
from tfl_research.experiment.running import execution

if TYPE_CHECKING:
    from tfl_research.experiment.running.result import Result
    from tfl_research.program import RoundReport


@dataclasses.dataclass(frozen=True, repr=False)
class Experiment(Description):
    """A federated experiment: what is trained, on whose data, how, and how privately.

    The binaries in `experiments/` describe an experiment by flags. The flags have the
    names of the fields of the experiment's parts. A run by Python and a run by flags
    write the same folder.

    Attributes:
      task: a task by name, with options (`TaskChoice`), or a task of your own
        (`tasks.from_arrays`).
      algorithm: a registered algorithm by name, or its settings
        (`algorithms.Scaffold()`).
      client_optimizer: the optimizer of the local steps; each round begins with a new
        optimizer state.
      server_optimizer: the optimizer that takes the aggregated update as a negative
        gradient (FedOpt).
      batches: how a client's examples become local steps.
      cohorts: the clients that take part in a round.
      weighting: the weight of a client's update.
      privacy: user-level, record-level, or None.
      release: what a private run releases in addition to its noised updates.
      aggregator: a registered aggregator by name, its settings
        (`aggregators.Krum(byzantine=2)`), or a TFF aggregation factory of your own. If
        a user-level mechanism noises a sum at the server, only aggregators that keep
        the sum's sensitivity are accepted.
      compression: a code for the clients' updates.
      secure_sums: whether everything that clients report goes through secure sums.
      devices: simulated devices, which replace clients that always take part.
      silos: clients that are down in some rounds.
      attack: the behaviour of malicious clients in a simulation.
      audit: canary clients that test the privacy guarantee, or None.
      baseline: training on one silo alone, or on pooled data.
      personal_evaluation: whether every client's personal model is evaluated when the
        rounds are done.
      training: number of rounds, seed, evaluation, checkpoints.
      runtime: the engine that executes the rounds.
      callbacks: objects that see every round and may stop the run.
      name: the name of the experiment; a folder is resumed by the experiment of the
        same name.

    Raises:
      SettingError: a part has the wrong type, or a name is unknown.

    Example, with your own arrays, your own Keras model, and user-level privacy:
      >>> import numpy as np
      >>> def build_model():
      ...     import tensorflow as tf
      ...     layers = [tf.keras.layers.Input([2]), tf.keras.layers.Dense(2)]
      ...     return tf.keras.Sequential(layers)
      >>> generator = np.random.default_rng(0)
      >>> clients = {}
      >>> for number in range(20):
      ...     x = generator.normal(size=(30, 2))
      ...     clients[f"ward {number}"] = {"x": x, "y": x[:, 0] > x[:, 1]}
      >>> experiment = tfl.Experiment(
      ...     tfl.tasks.from_arrays(clients, model=build_model),
      ...     client_optimizer=tfl.SGD(0.5),
      ...     server_optimizer=tfl.SGD(1.0, momentum=0.9),
      ...     cohorts=tfl.Cohorts("poisson", cohort_size=10),
      ...     privacy=tfl.UserLevelPrivacy("gaussian", target_epsilon=8),
      ...     release=tfl.Release(release_exact=["train_loss"]),
      ...     training=tfl.Training(rounds=10),
      ... )
      >>> experiment.check()
      >>> result = experiment.run("results/wards")
      privacy: Mechanism gaussian: fixed clip, independent Gaussian noise each round ...
      round 10/10 ...
      >>> 7.9 < result.epsilon <= 8
      True
      >>> result.metrics["train_loss"].count()
      10
      >>> result.model().predict(np.zeros((1, 2)), verbose=0).shape
      (1, 2)
    """

    def check(self) -> None:
        """Refuses an experiment that cannot run, before any file is written.

        The check reads the data and calibrates the noise. TensorFlow is imported only
        if the result depends on the shape of the model (distributed mechanisms,
        algorithms that divide models into parts).

        Raises:
          SettingError: two settings do not fit together; the message says the fix.

        Example:
          >>> tfl.Experiment("heart", algorithm="fed_exp").check()

          Settings that do not fit together are refused, with the fix:

          >>> momentum = tfl.SGD(1.0, momentum=0.9)
          >>> tfl.Experiment("heart", "fed_exp", server_optimizer=momentum).check()
          Traceback (most recent call last):
              ...
          tfl_research.errors.SettingError: server_momentum=0.9: fed_exp has a server
          step of its own; leave it out
        """
        setup.prepare(self)

    def run(
        self,
        folder: Union[str, os.PathLike[str]],
        *,
        resume: bool = True,
        recharge: bool = False,
        stream: Optional[TextIO] = None,
    ) -> Result:
        """Runs the experiment, or continues the run that the folder holds.

        Args:
          folder: the folder of the run; a missing folder is made. A run that was
            stopped at any moment ends with the same files as an uninterrupted run.
          resume: whether a folder that holds this run already is accepted.
          recharge: whether a private run continues although its model, data, packages
            or source files have changed. The rounds after the last checkpoint are then
            repeated with new noise and charged again. Without a change, the run goes on
            with the same noise, and no round is charged again.
          stream: where progress is printed; standard output by default.

        Raises:
          UserError: `check` refuses the experiment; or the folder holds another
            experiment, or was begun with another computation or privacy plan, or (for a
            private run) with other data or code. The message names what differs.
          TrainingDivergedError: the aggregated model is not finite.
          RunInterrupted: SIGINT or SIGTERM in the main thread.

        Example:
          >>> experiment = tfl.Experiment("heart", training=tfl.Training(rounds=2))
          >>> result = experiment.run("results/heart")
          untrained  eval loss 0.6931  eval accuracy 0...  eval auc 0.5 ...
          round 1/2  cohort 4  loss 0.6...  accuracy ...
          round 2/2  cohort 4  loss 0.5...  accuracy ...
          complete after round 2: all planned rounds are done; best eval_auc ...
          results: results/heart/metrics.csv  results/heart/export ...

          The folder holds this run now, so a longer run continues from there:

          >>> longer = experiment.with_settings(rounds=3)
          >>> result = longer.run("results/heart")
          resumes results/heart after round 2 of 3
          round 3/3 ...
        """
        return execution.run(
            self, folder, resume=resume, recharge=recharge, stream=stream
        )

    def rounds(
        self,
        folder: Union[str, os.PathLike[str]],
        *,
        resume: bool = True,
        recharge: bool = False,
        stream: Optional[TextIO] = None,
    ) -> Generator[RoundReport, None, Result]:
        """Runs the experiment one round at a time, for a loop of your own.

        If you leave the loop early, the folder can be resumed like any other. A
        generator that runs to its end returns the same `Result` as `run`:
        `result = yield from experiment.rounds(...)`. The arguments and errors are those
        of `run`.

        Example:
          >>> import io
          >>> experiment = tfl.Experiment("heart", training=tfl.Training(rounds=2))
          >>> for report in experiment.rounds("results/heart", stream=io.StringIO()):
          ...     print(report.round_number, report.epsilon)
          1 inf
          2 inf
        """
        return execution.rounds(
            self, folder, resume=resume, recharge=recharge, stream=stream
        )
