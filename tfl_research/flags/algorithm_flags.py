"""Flags of the federated algorithm."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from tfl_research.flags import declare
from tfl_research.flags.declare import FlagGroup

# By name: the paper, for --help.
ALGORITHMS = {
    "fed_avg": "McMahan et al. 2017, and FedOpt by --server_optimizer",
    "fed_prox": "Li et al. 2020, arXiv 1812.06127",
    "adaptive_prox": "FedProx whose strength follows the loss, same paper",
    "scaffold": "Karimireddy et al. 2020, arXiv 1910.06378",
    "fed_dyn": "Acar et al. 2021, arXiv 2111.04263",
    "fed_nova": "Wang et al. 2020, arXiv 2007.07481",
    "fed_exp": "Jhunjhunwala et al. 2023, arXiv 2301.09604",
    "mime_lite": "Karimireddy et al. 2021, arXiv 2008.03606",
    "mime": "same paper; a round of it takes two of --rounds",
}
_UNIFORM = ("scaffold", "fed_dyn")

_OWNERS = {
    "proximal_strength": ("fed_prox", "adaptive_prox", "fed_nova"),
    "scaffold_option": ("scaffold",),
    "dyn_alpha": ("fed_dyn",),
    "exp_epsilon": ("fed_exp",),
}


@dataclasses.dataclass(frozen=True)
class AlgorithmFlags(FlagGroup):
    """Which federated algorithm runs."""

    TITLE: ClassVar[str] = "Algorithm"

    algorithm: str = declare.choice(
        "fed_avg",
        "; ".join(f"{name}: {paper}" for name, paper in ALGORITHMS.items()) + ".",
        tuple(ALGORITHMS),
    )
    proximal_strength: Optional[float] = declare.real(
        None,
        "μ of the proximal term of fed_prox (0.1) and fed_nova (0), and of round one "
        "of adaptive_prox (0).",
        minimum=0,
    )
    scaffold_option: Optional[int] = declare.integer(
        None,
        "How SCAFFOLD renews a client's control variate: 1, by the gradient at the "
        "server's model; 2 (default), from the local steps, under plain SGD.",
        minimum=1,
        maximum=2,
    )
    dyn_alpha: Optional[float] = declare.real(
        None, "α of FedDyn's regulariser; 0.1.", above=0
    )
    exp_epsilon: Optional[float] = declare.real(
        None, "ε of FedExP's step size; 0.001.", above=0
    )

    def check(self) -> None:
        """See `FlagGroup.check`."""
        for field, owners in _OWNERS.items():
            if getattr(self, field) is not None and self.algorithm not in owners:
                raise self.refused(
                    field,
                    f"goes with --algorithm={' and '.join(owners)}, not with "
                    f"{self.algorithm}; leave it out",
                )

    @property
    def needs_uniform_weights(self) -> bool:
        """Whether the paper's algorithm weighs all clients alike."""
        return self.algorithm in _UNIFORM

    @property
    def exchanges(self) -> int:
        """Rounds that one round of the paper takes, all with one cohort."""
        return 2 if self.algorithm == "mime" else 1
