"""Settings for the compression of updates on their way to the server."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Optional

from tfl_research import settings
from tfl_research.errors import alternatives
from tfl_research.settings import Settings

if TYPE_CHECKING:
    from tfl_research.clients import ClientWork

NONE = "none"
_SPARSE = ("top_k", "random_k")
_OWNERS = {
    "compression_fraction": _SPARSE,
    "compression_bits": ("quantize",),
    "compression_rank": ("low_rank",),
}


@dataclasses.dataclass(frozen=True)
class Compression(Settings):
    """Lossy compression of the clients' updates.

    Example:
      >>> sparse = tfl.Compression("top_k", compression_fraction=0.01)
      >>> tfl.Experiment("mnist", compression=sparse).check()
      >>> tfl.Experiment("mnist", compression=tfl.Compression("quantize")).check()
    """

    TITLE: ClassVar[str] = "Compression"

    compression: str = settings.choice(
        NONE,
        "How clients compress their updates. top_k: send the largest entries (arXiv "
        "1704.05021). random_k: send entries drawn at random (arXiv 1610.05492). "
        "quantize: round each entry at random to a few bits (QSGD, arXiv 1610.02132). "
        "low_rank: send matrices as two factors (PowerSGD, arXiv 1905.13727).",
        (NONE, "top_k", "random_k", "quantize", "low_rank"),
    )
    compression_fraction: Optional[float] = settings.real(
        None,
        "Share of the entries that top_k and random_k send; 0.01 when not given.",
        above=0,
        maximum=1,
    )
    compression_bits: Optional[int] = settings.integer(
        None,
        "Bits of each entry under quantize; 8 when not given.",
        minimum=2,
        maximum=16,
    )
    compression_rank: Optional[int] = settings.integer(
        None, "Rank of the factors under low_rank; 4 when not given.", minimum=1
    )
    error_feedback: Optional[bool] = settings.switch(
        None,
        "Clients keep what compression loses, and add this to their next update (arXiv "
        "1901.09847). The default for top_k, random_k and low_rank.",
    )

    def check(self) -> None:
        for field, owners in _OWNERS.items():
            if getattr(self, field) is not None and self.compression not in owners:
                raise self.refused(
                    field,
                    f"goes with --compression={alternatives(owners)}; leave it out",
                )
        if self.error_feedback is not None and self.compression == NONE:
            raise self.refused(
                "error_feedback", "goes with --compression; leave it out"
            )

    @property
    def is_sparse(self) -> bool:
        """Whether the server gets only some entries, and zeros for the others."""
        return self.compression in _SPARSE

    @property
    def feeds_back(self) -> bool:
        """Whether clients keep the error of the code and add it in the next round."""
        if self.error_feedback is None:
            return self.compression in ("top_k", "random_k", "low_rank")
        return self.error_feedback

    def wrap(self, work: ClientWork) -> ClientWork:
        """Returns the client work with compressed updates; imports TensorFlow."""
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
