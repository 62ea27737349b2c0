"""Specifications of the algorithms with personal models; without TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from tfl_research import settings
from tfl_research.algorithms.specification import (
    AlgorithmContext,
    AlgorithmSettings,
    register,
)
from tfl_research.errors import SettingError

if TYPE_CHECKING:
    import tensorflow as tf

    from tfl_research.algorithms.algorithm import Algorithm


@register
@dataclasses.dataclass(frozen=True)
class Ditto(AlgorithmSettings):
    """Ditto: personal models that are pulled towards the global model.

    Example:
      >>> algorithm = tfl.algorithms.Ditto(personal_strength=0.5)
      >>> tfl.Experiment("heart", algorithm=algorithm, personal_evaluation=True).check()
    """

    NAME = "ditto"
    SUMMARY = "personal models"
    PAPERS = ("Li et al. 2021, arXiv 2012.04221",)
    STATEFUL = True
    PERSONAL = True

    personal_strength: float = settings.real(
        1.0,
        "λ of ditto: how strongly personal models are pulled to the global model.",
        minimum=0,
    )

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research.algorithms.personal.ditto import build_ditto

        return build_ditto(
            context.steps, server=context.server, strength=self.personal_strength
        )


@dataclasses.dataclass(frozen=True)
class SplitSettings(AlgorithmSettings):
    """Base of algorithms whose models have a shared and a personal part."""

    PERSONAL = True

    personal_tensors: int = settings.integer(
        2,
        "Number of the model's last weight tensors that are personal in fed_rep and "
        "reconstruction. 2 are the kernel and the bias of the last layer.",
        minimum=1,
    )
    personal_share: float = settings.real(
        0.5,
        "Share of a round's local steps that train the personal part in fed_rep and "
        "reconstruction.",
        above=0,
        below=1,
    )

    def check_model(self, specs: Sequence[tf.TensorSpec]) -> None:
        """Refuses a model in which every weight tensor would be personal."""
        from tfl_research.algorithms.personal.part import PersonalPart

        try:
            PersonalPart(self.personal_tensors).check(specs)
        except ValueError as error:
            raise SettingError(f"--personal_tensors: {error}") from error

    def division(self, names: Sequence[str], num_outputs: int) -> Optional[str]:
        """Returns a warning if the personal tensors may not be the model's head.

        The result is None if the personal tensors are whole layers of a model with one
        output.

        Args:
          names: names of the model's trainable weights, in order.
          num_outputs: the number of the model's outputs that are trained.
        """
        shared, personal = (
            names[: -self.personal_tensors],
            names[-self.personal_tensors :],
        )
        if not shared:
            return None
        layer, before = (n.rpartition("/")[0] for n in (personal[0], shared[-1]))
        if layer and layer == before:
            why = f"they divide layer {layer!r}, whose {shared[-1]} stays shared"
        elif num_outputs > 1:
            why = f"the model has {num_outputs} outputs, and {shared[-1]} stays shared"
        else:
            return None
        return (
            f"personal_tensors={self.personal_tensors}: the only personal tensors are "
            f"{', '.join(personal)}; {why}"
        )


@register
@dataclasses.dataclass(frozen=True)
class FedRep(SplitSettings):
    """FedRep: a shared body and a head that each client keeps.

    Example:
      >>> algorithm = tfl.algorithms.FedRep(personal_tensors=2)
      >>> tfl.Experiment("mnist", algorithm=algorithm).check()
    """

    NAME = "fed_rep"
    SUMMARY = "personal heads"
    PAPERS = ("Collins et al. 2021, arXiv 2102.07078",)
    STATEFUL = True

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research.algorithms.personal.fed_rep import build_fed_rep

        return build_fed_rep(
            context.steps,
            server=context.server,
            personal_tensors=self.personal_tensors,
            personal_share=self.personal_share,
        )


@register
@dataclasses.dataclass(frozen=True)
class Reconstruction(SplitSettings):
    """Federated reconstruction: a personal part that is trained anew each time.

    Example:
      >>> algorithm = tfl.algorithms.Reconstruction(personal_share=0.25)
      >>> tfl.Experiment("mnist", algorithm=algorithm).check()
    """

    NAME = "reconstruction"
    SUMMARY = "a personal part that clients train anew in each round"
    PAPERS = ("Singhal et al. 2021, arXiv 2102.03448",)

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research.algorithms.personal.reconstruction import build_reconstruction

        return build_reconstruction(
            context.steps,
            server=context.server,
            personal_tensors=self.personal_tensors,
            personal_share=self.personal_share,
        )


@register
@dataclasses.dataclass(frozen=True)
class Ifca(AlgorithmSettings):
    """IFCA: several global models; each client trains the model that fits it best.

    Example:
      >>> tfl.Experiment("mnist", algorithm=tfl.algorithms.Ifca(clusters=3)).check()
    """

    NAME = "ifca"
    SUMMARY = "a model for each cluster of clients"
    PAPERS = ("Ghosh et al. 2020, arXiv 2006.04088",)
    UPDATES = "an update for each cluster"
    OWN_SERVER_STEP = True
    PERSONAL = True

    clusters: int = settings.integer(2, "Cluster models of ifca.", minimum=2)

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research.algorithms.personal.ifca import build_ifca, cluster_models

        models = cluster_models(context.task, self.clusters, context.seed)
        return build_ifca(context.steps, models)
