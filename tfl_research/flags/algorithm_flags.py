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
    "fed_dropout": "sub-models, Caldas et al. 2018, arXiv 1812.07210",
    "fed_nova": "Wang et al. 2020, arXiv 2007.07481",
    "fed_exp": "Jhunjhunwala et al. 2023, arXiv 2301.09604",
    "mime_lite": "Karimireddy et al. 2021, arXiv 2008.03606",
    "mime": "same paper; a round of it takes two of --rounds",
    "fed_buff": "asynchronous --devices, --cohort_size is the buffer, Nguyen et al. "
    "2022, arXiv 2106.06639",
    "ditto": "personal models, Li et al. 2021, arXiv 2012.04221",
    "fed_rep": "personal heads, Collins et al. 2021, arXiv 2102.07078",
    "reconstruction": "personal part kept by nobody, Singhal et al. 2021, arXiv "
    "2102.03448",
    "ifca": "a model for each cluster of clients, Ghosh et al. 2020, arXiv 2006.04088",
}
_UNIFORM = ("scaffold", "fed_dyn", "fed_buff")
# Whose clients keep a state of the algorithm's own, and beside that nothing else.
STATEFUL = ("scaffold", "fed_dyn", "ditto", "fed_rep")
# Whose models have a personal part.
SPLIT = ("fed_rep", "reconstruction")
# What clients send beside their update, of which the server takes the mean.
REPORTS = {
    "adaptive_prox": "their loss",
    "scaffold": "what their control variate changed by",
    "fed_nova": "the number of their steps",
    "fed_dropout": "which weights are theirs",
    "fed_exp": "the norm of their update",
    "mime_lite": "their gradient",
    "mime": "their gradient",
}

_OWNERS = {
    "proximal_strength": ("fed_prox", "adaptive_prox", "fed_nova"),
    "scaffold_option": ("scaffold",),
    "dyn_alpha": ("fed_dyn",),
    "kept_units": ("fed_dropout",),
    "exp_epsilon": ("fed_exp",),
    "exp_average": ("fed_exp",),
    "concurrency": ("fed_buff",),
    "max_staleness": ("fed_buff",),
    "personal_strength": ("ditto",),
    "personal_tensors": SPLIT,
    "personal_share": SPLIT,
    "clusters": ("ifca",),
}


@dataclasses.dataclass(frozen=True)
class AlgorithmFlags(FlagGroup):
    """Which federated algorithm runs."""

    TITLE: ClassVar[str] = "Algorithm"

    algorithm: str = declare.choice(
        "fed_avg",
        "; ".join(f"{name}: {paper}" for name, paper in ALGORITHMS.items())
        + f". {', '.join(_UNIFORM)} weigh all clients alike.",
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
    kept_units: Optional[float] = declare.real(
        None,
        "Share of a layer's units that the sub-models of fed_dropout have; 0.5.",
        above=0,
        maximum=1,
    )
    exp_epsilon: Optional[float] = declare.real(
        None, "ε of FedExP's step size; 0.001.", above=0
    )
    exp_average: Optional[bool] = declare.switch(
        None,
        "The global model of fed_exp is the mean of the last two, as in its paper's "
        "experiments; clients begin at the last one.",
    )
    concurrency: Optional[int] = declare.integer(
        None, "Devices that train at once under fed_buff; 100.", minimum=1
    )
    max_staleness: Optional[int] = declare.integer(
        None,
        "Server steps after which fed_buff discards an update that began before them; "
        "10.",
        minimum=0,
    )
    personal_strength: Optional[float] = declare.real(
        None,
        "λ of ditto, by which personal models are pulled to the global one; 1.",
        minimum=0,
    )
    personal_tensors: Optional[int] = declare.integer(
        None,
        "Last weight tensors of the model that are personal in fed_rep and "
        "reconstruction; 2, the kernel and the bias of the last layer.",
        minimum=1,
    )
    personal_share: Optional[float] = declare.real(
        None,
        "Share of a round's local steps that train the personal part in fed_rep and "
        "reconstruction, above 0 and below 1; 0.5.",
        above=0,
        below=1,
    )
    clusters: Optional[int] = declare.integer(
        None, "Cluster models of ifca; 2.", minimum=2
    )
    personal_evaluation: bool = declare.switch(
        False,
        "When the rounds are done, evaluate every client's personal model on its own "
        "test examples. Algorithms without personal models are fine-tuned: the client "
        "takes its local steps from the final model.",
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
    def buffering(self) -> Optional[tuple[int, int]]:
        """(concurrency, largest staleness) of asynchronous devices; None without."""
        if self.algorithm != "fed_buff":
            return None
        stale = 10 if self.max_staleness is None else self.max_staleness
        return self.concurrency or 100, stale

    @property
    def exchanges(self) -> int:
        """Rounds that one round of the paper takes, all with one cohort."""
        return 2 if self.algorithm == "mime" else 1
