"""Turns an experiment into a FLARE job or a Flower app, in which the engine averages.

`export` writes the job at the coordinator. At each site, `serve_training` trains for
the job, as far as the site's policy allows.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfl_research.errors import UserError, alternatives
from tfl_research.experiment.at_sites.site import SiteWork
from tfl_research.experiment.description import Description
from tfl_research.experiment.federated import shared
from tfl_research.federation.engines import environments
from tfl_research.federation.engines.training_socket import (
    Trained,
    Trainer,
    TrainingServer,
)
from tfl_research.federation.site.policy import SitePolicy
from tfl_research.federation.site.site_file import SiteFile
from tfl_research.federation.wire.handler import Refused
from tfl_research.federation.wire.messages import Message

SETTINGS_FILE = "experiment.json"


def export(
    experiment: Description,
    engine: str,
    folder: pathlib.Path,
    *,
    minimum_sites: int,
    site_weights: Mapping[str, float] | None = None,
    fraction_fit: float = 1.0,
    simulated_sockets: Mapping[str, pathlib.Path] | None = None,
) -> pathlib.Path:
    """Writes an experiment as a FLARE job or a Flower app. Imports TensorFlow.

    The folder also gets `experiment.json`, which every site needs for `serve_training`.

    Args:
      experiment: FedAvg or FedProx with the mean, and a server that takes the mean.
      engine: "flare" or "flower".
      folder: the folder in which `job` or `app` is written; it must not have either.
      minimum_sites: number of sites that must take part in a round.
      site_weights: FLARE's further factor of each site's weight.
      fraction_fit: Flower's share of the sites that train in a round.
      simulated_sockets: the sites' training sockets, for `nvflare simulator`.

    Returns:
      The job's or app's folder.

    Raises:
      SettingError: the engine's average cannot execute the experiment.
      UserError: the engine is unknown, or the folder has a job already.
    """
    from tfl_research.experiment.at_sites import engine_trainer
    from tfl_research.federation.engines import flare_job, flower_app

    if engine not in environments.ENGINES:
        raise UserError(
            f"--engine={engine}: must be {alternatives(environments.ENGINES)}"
        )
    engine_trainer.check(experiment)
    target = folder / ("job" if engine == "flare" else "app")
    if target.exists():
        raise UserError(f"{target} exists already; give another folder")
    weights = engine_trainer.first_weights(experiment, shared.blueprint(experiment))
    rounds = experiment.training.rounds
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        **shared.settings(experiment),
        shared.SOURCES: shared.source_digest(),
    }
    settings = json.dumps(content, indent=2, sort_keys=True)
    (folder / SETTINGS_FILE).write_text(f"{settings}\n", encoding="utf-8")
    if engine == "flare":
        return flare_job.write_training(
            target,
            weights,
            rounds=rounds,
            minimum_clients=minimum_sites,
            site_weights=site_weights,
            simulated_sockets=simulated_sockets,
        )
    return flower_app.write_training(
        target,
        weights,
        rounds=rounds,
        fraction_fit=fraction_fit,
        minimum_fit_clients=minimum_sites,
        minimum_evaluate_clients=minimum_sites,
        minimum_available_clients=minimum_sites,
    )


def serve_training(
    path: pathlib.Path,
    settings: pathlib.Path,
    *,
    say: Callable[[str], None] = print,
) -> None:
    """Trains at a site for an engine's job, until SIGINT or SIGTERM.

    Args:
      path: the path of the site's site.toml. The socket is `train.sock`, in the folder
        of the site's own socket.
      settings: the path of the `experiment.json` that `export` wrote.
      say: prints a line.

    Raises:
      UserError: a file does not fit, or another process serves the job.
      Refused: the experiment is against the site's policy.
    """
    site = SiteFile.read(path)
    server = TrainingServer(
        site.socket.with_name("train.sock"), trainer_at(site, settings, say), say
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    say(f"site {site.name} trains for an engine's job")
    server.serve()


def trainer_at(
    site: SiteFile, settings: pathlib.Path, say: Callable[[str], None]
) -> Trainer:
    """Makes the trainer of a site, within the site's policy; imports TensorFlow.

    Raises:
      UserError: a file cannot be read.
      Refused: the experiment is against the site's policy.
    """
    try:
        flat = json.loads(settings.read_text(encoding="utf-8"))
        if not isinstance(flat, dict):
            raise ValueError("it must be an object")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{settings} cannot be read: {error}; export the job again"
        ) from error
    return _AtSite(site, say).trainer(flat)


class _AtSite(SiteWork):
    """A site's experiment and data, for an engine's job."""

    def trainer(self, flat: dict[str, Any]) -> Trainer:
        """Makes the trainer of an experiment, after the policy's checks."""
        from tfl_research.experiment.at_sites.engine_trainer import EngineTrainer

        flat = dict(flat)
        self._check_sources(flat.pop(shared.SOURCES, None))
        experiment = self._experiment(Message("hello", {"experiment": flat}))
        task = self._task(experiment)
        policy = self._site.policy
        policy.check(experiment, task)
        if not policy.allows("examples"):
            raise Refused(
                "site.toml: metrics must have 'examples', because the engine weights "
                "the sites by their numbers of examples"
            )
        return _WithinPolicy(EngineTrainer(experiment, task), policy)


@dataclasses.dataclass(frozen=True)
class _WithinPolicy:
    """A trainer that keeps to a site's policy."""

    trainer: Trainer
    policy: SitePolicy

    def train(self, weights: Sequence[np.ndarray], round_number: int) -> Trained:
        self.policy.check_round(round_number)
        return self._allowed(self.trainer.train(weights, round_number))

    def evaluate(self, weights: Sequence[np.ndarray]) -> Trained:
        return self._allowed(self.trainer.evaluate(weights))

    def _allowed(self, done: Trained) -> Trained:
        metrics = {n: v for n, v in done.metrics.items() if self.policy.allows(n)}
        return dataclasses.replace(done, metrics=metrics)
