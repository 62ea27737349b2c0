"""Specifications of algorithms that change what clients and server exchange."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from tfl_research import settings
from tfl_research.algorithms.specification import (
    AlgorithmContext,
    AlgorithmSettings,
    check_sgd,
    register,
)
from tfl_research.errors import SettingError

if TYPE_CHECKING:
    import tensorflow as tf

    from tfl_research.algorithms.algorithm import Algorithm
    from tfl_research.models import ClientOptimizer

_MIME = "Karimireddy et al. 2021, arXiv 2008.03606"


@register
@dataclasses.dataclass(frozen=True)
class FedDropout(AlgorithmSettings):
    """Federated dropout: each client trains a random part of every layer.

    Example:
      >>> algorithm = tfl.algorithms.FedDropout(kept_units=0.75)
      >>> tfl.Experiment("mnist", algorithm=algorithm).check()
    """

    NAME = "fed_dropout"
    SUMMARY = "clients train sub-models"
    PAPERS = ("Caldas et al. 2018, arXiv 1812.07210",)
    REPORTS = "which weights are theirs"
    UPDATES = "an update of a part of the model"

    kept_units: float = settings.real(
        0.5,
        "Share of a layer's units that the sub-models of fed_dropout keep.",
        above=0,
        maximum=1,
    )

    def check_model(self, specs: Sequence[tf.TensorSpec]) -> None:
        """Refuses a model that has no layers whose units can be left out."""
        from tfl_research.algorithms.fed_dropout import SubModels

        try:
            SubModels(self.kept_units).check(specs)
        except ValueError as error:
            raise SettingError(f"--algorithm={self.NAME}: {error}") from error
        if len(specs) == 2:
            raise SettingError(
                f"--algorithm={self.NAME}: the task's model has one layer, which has "
                "no units to leave out; choose another --algorithm"
            )

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research.algorithms.fed_dropout import build_fed_dropout

        return build_fed_dropout(
            context.steps, share=self.kept_units, server=context.server
        )


@register
@dataclasses.dataclass(frozen=True)
class FedNova(AlgorithmSettings):
    """FedNova: each update is divided by the client's number of local steps.

    Example:
      >>> tfl.Experiment("heart", algorithm=tfl.algorithms.FedNova()).check()
    """

    NAME = "fed_nova"
    SUMMARY = "updates normalised by local steps"
    PAPERS = ("Wang et al. 2020, arXiv 2007.07481",)
    REPORTS = "the number of their steps"

    proximal_strength: float = settings.real(0.0, "μ of the proximal term.", minimum=0)

    def check_clients(self, client: ClientOptimizer) -> None:
        """Refuses local steps for which FedNova has no formula of the update's norm."""
        check_sgd(client, self.NAME, momentum=not self.proximal_strength)
        if not self.proximal_strength:
            return
        if client.gradient_clip is not None:
            raise client.refused(
                "gradient_clip",
                "fed_nova with --proximal_strength needs gradients that are not "
                "clipped; leave one of the two out",
            )
        if client.learning_rate * self.proximal_strength > 1:
            raise self.refused(
                "proximal_strength",
                f"times --client_learning_rate={client.learning_rate:g} must be at "
                "most 1 under fed_nova; lower one of them",
            )

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research.algorithms.fed_nova import build_fed_nova

        return build_fed_nova(
            context.steps,
            server=context.server,
            proximal_strength=self.proximal_strength,
        )


@register
@dataclasses.dataclass(frozen=True)
class FedExp(AlgorithmSettings):
    """FedExP: the server's step is longer if the clients' updates disagree more.

    Example:
      >>> algorithm = tfl.algorithms.FedExp(exp_average=True)
      >>> tfl.Experiment("heart", algorithm=algorithm).check()
    """

    NAME = "fed_exp"
    SUMMARY = "extrapolated server step"
    PAPERS = ("Jhunjhunwala et al. 2023, arXiv 2301.09604",)
    REPORTS = "the norm of their update"
    REPORTS_UNCODED = "the norm of their update as it was before compression"
    OWN_SERVER_STEP = True

    exp_epsilon: float = settings.real(
        1e-3,
        "ε of FedExP's step size, as in the paper. The authors' code has the cohort's "
        "size times ε.",
        above=0,
    )
    exp_average: bool = settings.switch(
        False,
        "The global model of fed_exp is the mean of the server's last two models, as "
        "in the paper's experiments. Clients begin at the last model.",
    )

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research import clients
        from tfl_research.algorithms.fed_exp import build_fed_exp

        return build_fed_exp(
            clients.LocalTraining(context.steps),
            epsilon=self.exp_epsilon,
            averages=self.exp_average,
        )


@register
@dataclasses.dataclass(frozen=True)
class MimeLite(AlgorithmSettings):
    """MimeLite: local steps use the server optimizer's statistics.

    Example:
      >>> tfl.Experiment("heart", algorithm=tfl.algorithms.MimeLite()).check()
    """

    NAME = "mime_lite"
    SUMMARY = "local steps with the server's optimizer state"
    PAPERS = (_MIME,)
    REPORTS = "their gradient"

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research.algorithms.mime import build_mime_lite

        return build_mime_lite(context.steps, server=context.server)


@register
@dataclasses.dataclass(frozen=True)
class Mime(AlgorithmSettings):
    """Mime: MimeLite whose local gradients are corrected by the cohort's gradient.

    Example:
      >>> tfl.Experiment("heart", algorithm=tfl.algorithms.Mime()).check()
    """

    NAME = "mime"
    SUMMARY = "mime_lite with corrected gradients, two exchanges a round"
    PAPERS = (_MIME,)
    REPORTS = "their gradient"
    EXCHANGES = 2

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research.algorithms.mime import build_mime

        return build_mime(context.steps, server=context.server)


@register
@dataclasses.dataclass(frozen=True)
class FedBuff(AlgorithmSettings):
    """FedBuff: asynchronous clients whose updates are buffered.

    Example:
      >>> devices = tfl.Devices(500)
      >>> algorithm = tfl.algorithms.FedBuff(concurrency=50)
      >>> tfl.Experiment("mnist", algorithm=algorithm, devices=devices).check()
    """

    NAME = "fed_buff"
    SUMMARY = "asynchronous --devices; --cohort_size is the buffer's size"
    PAPERS = ("Nguyen et al. 2022, arXiv 2106.06639",)
    WEIGHTING = "uniform"

    concurrency: int = settings.integer(
        100, "Devices that train at once under fed_buff.", minimum=1
    )
    max_staleness: int = settings.integer(
        10,
        "fed_buff discards an update that began more than this many server steps ago.",
        minimum=0,
    )

    @property
    def buffering(self) -> Optional[tuple[int, int]]:
        return self.concurrency, self.max_staleness

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research import clients
        from tfl_research.algorithms.fed_buff import build_fed_buff

        return build_fed_buff(
            clients.LocalTraining(context.steps),
            server=context.server,
            max_staleness=self.max_staleness,
        )
