"""Federated algorithms: pairs of client work and server work.

A specification such as `FedAvg()` or `FedProx(0.1)` chooses an algorithm without
TensorFlow. `build` makes an `Algorithm` from the specification. `clients` and
`processes` have the parts that several algorithms share. `aggregators` decides how
updates are aggregated.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy
from tfl_research.algorithms.catalogue.local_steps import (
    AdaptiveProx as AdaptiveProx,
    FedAvg as FedAvg,
    FedDyn as FedDyn,
    FedProx as FedProx,
    Scaffold as Scaffold,
)
from tfl_research.algorithms.catalogue.messages import (
    FedBuff as FedBuff,
    FedDropout as FedDropout,
    FedExp as FedExp,
    FedNova as FedNova,
    Mime as Mime,
    MimeLite as MimeLite,
)
from tfl_research.algorithms.personal.catalogue import (
    Ditto as Ditto,
    FedRep as FedRep,
    Ifca as Ifca,
    Reconstruction as Reconstruction,
)
from tfl_research.algorithms.specification import (
    ALGORITHMS as ALGORITHMS,
    AlgorithmContext as AlgorithmContext,
    AlgorithmSettings as AlgorithmSettings,
    register as register,
)

if TYPE_CHECKING:
    from tfl_research.algorithms.adaptive_prox import (
        build_adaptive_prox as build_adaptive_prox,
    )
    from tfl_research.algorithms.algorithm import Algorithm as Algorithm
    from tfl_research.algorithms.fed_avg import build_fed_avg as build_fed_avg
    from tfl_research.algorithms.fed_buff import build_fed_buff as build_fed_buff
    from tfl_research.algorithms.fed_dropout import (
        SubModels as SubModels,
        build_fed_dropout as build_fed_dropout,
    )
    from tfl_research.algorithms.fed_dyn import build_fed_dyn as build_fed_dyn
    from tfl_research.algorithms.fed_exp import build_fed_exp as build_fed_exp
    from tfl_research.algorithms.fed_nova import build_fed_nova as build_fed_nova
    from tfl_research.algorithms.mime import (
        build_mime as build_mime,
        build_mime_lite as build_mime_lite,
    )
    from tfl_research.algorithms.personal.ditto import build_ditto as build_ditto
    from tfl_research.algorithms.personal.fed_rep import build_fed_rep as build_fed_rep
    from tfl_research.algorithms.personal.ifca import (
        build_ifca as build_ifca,
        cluster_models as cluster_models,
    )
    from tfl_research.algorithms.personal.part import PersonalPart as PersonalPart
    from tfl_research.algorithms.personal.reconstruction import (
        build_reconstruction as build_reconstruction,
    )
    from tfl_research.algorithms.scaffold import build_scaffold as build_scaffold
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
