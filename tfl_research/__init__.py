"""Federated-learning research on TensorFlow Federated.

`Experiment` is the front door. One object says what is trained, on whose data, how, and
how privately. An experiment is checked as a whole, run and resumed. The packages have
the parts of experiments. `registry.load_plugin` adds parts of a user's own.

The examples in docstrings import this package as `tfl`.

Example:
  >>> import tfl_research as tfl
  >>> experiment = tfl.Experiment(
  ...     task="heart",
  ...     client_optimizer=tfl.SGD(0.1),
  ...     training=tfl.Training(rounds=2),
  ... )
  >>> result = experiment.run("results/heart")
  untrained  eval loss 0.6931 ...
  >>> result.metrics["train_loss"].round(2).tolist()
  [0.61, 0.55]
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research import (
        aggregators as aggregators,
        algorithms as algorithms,
        attacks as attacks,
        cli as cli,
        clients as clients,
        data as data,
        devices as devices,
        errors as errors,
        experiment as experiment,
        models as models,
        privacy as privacy,
        processes as processes,
        program as program,
        registry as registry,
        report as report,
        runtime as runtime,
        sampling as sampling,
        settings as settings,
        storage as storage,
        tasks as tasks,
    )
    from tfl_research.errors import SettingError as SettingError, UserError as UserError
    from tfl_research.experiment import (
        Experiment as Experiment,
        ProcessExperiment as ProcessExperiment,
        Result as Result,
    )
    from tfl_research.experiment.configs import (
        Attack as Attack,
        Audit as Audit,
        Baseline as Baseline,
        Batches as Batches,
        Cohorts as Cohorts,
        Compression as Compression,
        Devices as Devices,
        ProcessPrivacy as ProcessPrivacy,
        RecordLevelPrivacy as RecordLevelPrivacy,
        Release as Release,
        Runtime as Runtime,
        SecureSums as SecureSums,
        Silos as Silos,
        TaskChoice as TaskChoice,
        Training as Training,
        UserLevelPrivacy as UserLevelPrivacy,
        Weighting as Weighting,
    )
    from tfl_research.experiment.sweeps import Point as Point, Sweep as Sweep
    from tfl_research.models.optimizers import (
        SGD as SGD,
        Adagrad as Adagrad,
        Adam as Adam,
        Optimizer as Optimizer,
        Yogi as Yogi,
    )
    from tfl_research.program import Callback as Callback, Stop as Stop
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
