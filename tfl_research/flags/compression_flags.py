"""Flags of how updates are compressed on their way to the server."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Optional

from tfl_research import aggregators
from tfl_research.flags import declare
from tfl_research.flags.aggregator_flags import AggregatorFlags
from tfl_research.flags.algorithm_flags import STATEFUL, AlgorithmFlags
from tfl_research.flags.declare import FlagGroup

if TYPE_CHECKING:
    from tfl_research.clients import ClientWork

NONE = "none"
# Of which the server gets some entries, and zeros in place of the others.
_SPARSE = ("top_k", "random_k")
_OWNERS = {
    "compression_fraction": _SPARSE,
    "compression_bits": ("quantize",),
    "compression_rank": ("low_rank",),
}


@dataclasses.dataclass(frozen=True)
class CompressionFlags(FlagGroup):
    """A lossy code for the clients' updates."""

    TITLE: ClassVar[str] = "Compression"

    compression: str = declare.choice(
        NONE,
        "top_k: the largest entries (arXiv 1704.05021); random_k: entries drawn at "
        "random (arXiv 1610.05492); quantize: few bits an entry, rounded at random "
        "(QSGD, arXiv 1610.02132); low_rank: matrices as two factors (PowerSGD, arXiv "
        "1905.13727).",
        (NONE, "top_k", "random_k", "quantize", "low_rank"),
    )
    compression_fraction: Optional[float] = declare.real(
        None, "Entries that top_k and random_k send; 0.01.", above=0, maximum=1
    )
    compression_bits: Optional[int] = declare.integer(
        None, "Bits of an entry for quantize; 8.", minimum=2, maximum=16
    )
    compression_rank: Optional[int] = declare.integer(
        None, "Rank of low_rank; 4.", minimum=1
    )
    error_feedback: Optional[bool] = declare.switch(
        None,
        "Clients keep what the code loses and add it to their next update (arXiv "
        "1901.09847); by default for top_k, random_k and low_rank.",
    )

    def check(self) -> None:
        """See `FlagGroup.check`."""
        for field, owners in _OWNERS.items():
            if getattr(self, field) is not None and self.compression not in owners:
                raise self.refused(
                    field,
                    f"goes with --compression={' and '.join(owners)}; leave it out",
                )
        if self.error_feedback is not None and self.compression == NONE:
            raise self.refused(
                "error_feedback", "goes with --compression; leave it out"
            )

    def check_with(self, algorithm: AlgorithmFlags) -> None:
        """Refuses what an algorithm's clients cannot keep, or what its server needs.

        Raises:
          FlagError: as described.
        """
        if self.compression != NONE and algorithm.algorithm == "fed_dyn":
            raise self.refused(
                "compression",
                "clients of fed_dyn keep what they sent, and the server has to add up "
                "the same; leave it out or choose another --algorithm",
            )
        if self.feeds_back and algorithm.algorithm in STATEFUL:
            raise self.refused(
                "compression",
                f"clients of {algorithm.algorithm} keep a state of their own, beside "
                "which none is kept for error feedback; give quantize, or random_k "
                "with --noerror_feedback, which need none",
            )
        if self.compression != NONE and algorithm.exchanges > 1:
            raise self.refused(
                "compression",
                f"the server drops the updates of the first of {algorithm.exchanges} "
                f"exchanges of {algorithm.algorithm}, with what clients fed back; "
                "leave it out or choose another --algorithm",
            )

    def check_with_rule(self, aggregation: AggregatorFlags) -> None:
        """Refuses two codes, and rules of coordinates where clients send some only.

        Raises:
          FlagError: as described.
        """
        rule = aggregation.aggregator
        if self.compression != NONE and rule == "compression":
            raise self.refused(
                "compression",
                "--aggregator=compression codes the updates too; leave one of them out",
            )
        if self.compression not in _SPARSE or rule not in aggregators.RULES:
            return
        try:
            aggregators.check_with_sparse_updates(rule)
        except ValueError as error:
            raise self.refused(
                "compression",
                f"{error}; give quantize or low_rank, or a rule of whole updates as "
                "geometric_median",
            ) from error

    @property
    def feeds_back(self) -> bool:
        """Whether clients keep what is lost."""
        if self.error_feedback is None:
            return self.compression in ("top_k", "random_k", "low_rank")
        return self.error_feedback

    def wrap(self, work: ClientWork) -> ClientWork:
        """The client work with its updates compressed; imports TensorFlow."""
        if self.compression == NONE:
            return work
        from tfl_research import clients

        fraction = self.compression_fraction or 0.01
        compressor: clients.Compressor
        if self.compression == "top_k":
            compressor = clients.TopK(fraction)
        elif self.compression == "random_k":
            compressor = clients.RandomK(fraction, rescale=not self.feeds_back)
        elif self.compression == "quantize":
            compressor = clients.Quantized(self.compression_bits or 8)
        else:
            compressor = clients.LowRank(self.compression_rank or 4)
        return clients.CompressedWork(work, compressor, self.feeds_back)
