"""Federated algorithms, each client work and server work that belong together.

Parts that several algorithms share are in `clients` and `processes`; how updates are
aggregated is not decided here.
"""

from tfl_research.algorithms.adaptive_prox import adaptive_prox
from tfl_research.algorithms.algorithm import Algorithm
from tfl_research.algorithms.ditto import ditto
from tfl_research.algorithms.fed_avg import fed_avg
from tfl_research.algorithms.fed_buff import fed_buff
from tfl_research.algorithms.fed_dropout import SubModels, fed_dropout
from tfl_research.algorithms.fed_dyn import fed_dyn
from tfl_research.algorithms.fed_exp import fed_exp
from tfl_research.algorithms.fed_nova import fed_nova
from tfl_research.algorithms.fed_rep import fed_rep
from tfl_research.algorithms.ifca import cluster_models, ifca
from tfl_research.algorithms.mime import mime, mime_lite
from tfl_research.algorithms.personal_part import PersonalPart
from tfl_research.algorithms.reconstruction import reconstruction
from tfl_research.algorithms.scaffold import scaffold

__all__ = [
    "Algorithm",
    "PersonalPart",
    "SubModels",
    "adaptive_prox",
    "cluster_models",
    "ditto",
    "fed_avg",
    "fed_buff",
    "fed_dropout",
    "fed_dyn",
    "fed_exp",
    "fed_nova",
    "fed_rep",
    "ifca",
    "mime",
    "mime_lite",
    "reconstruction",
    "scaffold",
]
