"""Specifications of FedAvg and of algorithms that correct each local step."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tfl_research import settings
from tfl_research.algorithms.specification import (
    AlgorithmContext,
    AlgorithmSettings,
    check_sgd,
    register,
)

if TYPE_CHECKING:
    from tfl_research.algorithms.algorithm import Algorithm
    from tfl_research.models import ClientOptimizer

_FED_PROX = "Li et al. 2020, arXiv 1812.06127"


@register
@dataclasses.dataclass(frozen=True)
class FedAvg(AlgorithmSettings):
    """FedAvg, or FedOpt with a server optimizer other than SGD of rate 1.

    Example:
      >>> tfl.Experiment("heart", algorithm=tfl.algorithms.FedAvg()).check()
    """

    NAME = "fed_avg"
    SUMMARY = "weighted mean of updates; FedOpt by --server_optimizer"
    PAPERS = (
        "McMahan et al. 2017, arXiv 1602.05629",
        "Reddi et al. 2020, arXiv 2003.00295",
    )
    ONLY_UPDATES_LEAVE = True

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research.algorithms.fed_avg import build_fed_avg

        return build_fed_avg(context.steps, server=context.server)


@register
@dataclasses.dataclass(frozen=True)
class FedProx(AlgorithmSettings):
    """FedAvg whose local steps are pulled back to the server's model.

    Example:
      >>> algorithm = tfl.algorithms.FedProx(proximal_strength=0.3)
      >>> tfl.Experiment("heart", algorithm=algorithm).check()
    """

    NAME = "fed_prox"
    SUMMARY = "local steps with a proximal term"
    PAPERS = (_FED_PROX,)
    ONLY_UPDATES_LEAVE = True

    proximal_strength: float = settings.real(0.1, "μ of the proximal term.", minimum=0)

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research.algorithms.fed_avg import build_fed_avg

        return build_fed_avg(
            context.steps,
            server=context.server,
            proximal_strength=self.proximal_strength,
        )


@register
@dataclasses.dataclass(frozen=True)
class AdaptiveProx(AlgorithmSettings):
    """FedProx whose proximal strength follows the clients' loss.

    Example:
      >>> algorithm = tfl.algorithms.AdaptiveProx(proximal_strength=0.1)
      >>> tfl.Experiment("heart", algorithm=algorithm).check()
    """

    NAME = "adaptive_prox"
    SUMMARY = "FedProx whose strength follows the loss"
    PAPERS = (_FED_PROX,)
    REPORTS = "their loss"

    proximal_strength: float = settings.real(
        0.0, "μ of the proximal term in round one.", minimum=0
    )

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research.algorithms.adaptive_prox import build_adaptive_prox

        return build_adaptive_prox(
            context.steps, server=context.server, initial=self.proximal_strength
        )


@register
@dataclasses.dataclass(frozen=True)
class Scaffold(AlgorithmSettings):
    """SCAFFOLD: control variates of server and clients correct local steps.

    Example:
      >>> algorithm = tfl.algorithms.Scaffold(scaffold_option=1)
      >>> tfl.Experiment("heart", algorithm=algorithm).check()
    """

    NAME = "scaffold"
    SUMMARY = "control variates against client drift"
    PAPERS = ("Karimireddy et al. 2020, arXiv 1910.06378",)
    WEIGHTING = "uniform"
    REPORTS = "what their control variate changed by"
    STATEFUL = True

    scaffold_option: int = settings.integer(
        2,
        "How SCAFFOLD renews a client's control variate: 1, by the gradient at the "
        "server's model; 2, from the local steps, which must be plain SGD.",
        minimum=1,
        maximum=2,
    )

    def check_clients(self, client: ClientOptimizer) -> None:
        """Refuses local steps other than plain SGD under SCAFFOLD's option 2."""
        if self.scaffold_option == 1:
            return
        check_sgd(client, f"{self.NAME} (--scaffold_option=2)", momentum=False)
        if client.gradient_clip is not None:
            raise client.refused(
                "gradient_clip", "needs --scaffold_option=1 under scaffold"
            )

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research.algorithms.scaffold import build_scaffold

        return build_scaffold(
            context.steps,
            population=context.population,
            server=context.server,
            option=self.scaffold_option,
        )


@register
@dataclasses.dataclass(frozen=True)
class FedDyn(AlgorithmSettings):
    """FedDyn: each client's loss has a regulariser that follows the client's updates.

    Example:
      >>> algorithm = tfl.algorithms.FedDyn(dyn_alpha=0.05)
      >>> tfl.Experiment("heart", algorithm=algorithm).check()
    """

    NAME = "fed_dyn"
    SUMMARY = "dynamic regularisation of local steps"
    PAPERS = ("Acar et al. 2021, arXiv 2111.04263",)
    WEIGHTING = "uniform"
    STATEFUL = True
    KEEPS_SENT = True
    OWN_SERVER_STEP = True

    dyn_alpha: float = settings.real(0.1, "α of FedDyn's regulariser.", above=0)

    def build(self, context: AlgorithmContext) -> Algorithm:
        from tfl_research.algorithms.fed_dyn import build_fed_dyn

        return build_fed_dyn(
            context.steps, population=context.population, alpha=self.dyn_alpha
        )
