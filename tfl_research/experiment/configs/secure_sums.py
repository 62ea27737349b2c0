"""Settings for secure sums of everything that clients report."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from tfl_research import settings
from tfl_research.aggregators import SumFormats
from tfl_research.settings import Settings


@dataclasses.dataclass(frozen=True)
class SecureSums(Settings):
    """Secure sums of everything that clients report.

    A client sends its values as whole numbers of steps. The step is the smallest power
    of two such that the sum of the largest cohort fits into the bits. So the error of a
    mean of updates with weights w over n clients is at most n x step / (2 Σ w). Counts
    and example weights are exact. With 62 bits and the bound of 2^20, the step for up
    to 63 clients is 2^-35, which is less than the rounding of float32.

    Example:
      >>> secure = tfl.SecureSums(True)
      >>> tfl.Experiment("heart", secure_sums=secure).check()
      >>> small = tfl.SecureSums(True, secure_sum_bits=32, secure_sum_bound=64)
      >>> tfl.Experiment("heart", secure_sums=small).check()
      >>> small.formats(4).tensors.step == 2**-22
      True
    """

    TITLE: ClassVar[str] = "Secure sums"

    secure_sums: bool = settings.switch(
        False,
        "Everything that clients report goes through secure sums, so the server sees "
        "only totals: of updates, weights, reports, counts and train metrics. Numbers "
        "are rounded to steps (--secure_sum_bits). A simulation adds the same "
        "integers without masks.",
    )
    secure_sum_bits: Optional[int] = settings.integer(
        None,
        "Bits of a coordinate of an update under --secure_sums; 62 when not given. "
        "Fewer bits make messages smaller and steps larger.",
        minimum=8,
        maximum=62,
    )
    secure_sum_bound: Optional[float] = settings.real(
        None,
        "Largest magnitude of a coordinate that a client sends under --secure_sums, "
        "as update times weight; 2^20 when not given. Larger values are clipped, and "
        "clipped_clients in metrics.csv counts the clients with clipped values.",
        above=0,
    )

    def check(self) -> None:
        for field in ("secure_sum_bits", "secure_sum_bound"):
            if getattr(self, field) is not None and not self.secure_sums:
                raise self.refused(field, "goes with --secure_sums; leave it out")

    def formats(self, clients: int, *, secure: bool = True) -> Optional[SumFormats]:
        """Returns the fixed-point formats of a run; None without secure sums.

        Args:
          clients: largest number of clients in a cohort.
          secure: whether the runtime executes secure sums; otherwise plain sums of the
            same integers.

        Raises:
          SettingError: the bits cannot hold the sums of the clients.
        """
        if not self.secure_sums:
            return None
        formats = SumFormats(1)
        bits = formats.bits if self.secure_sum_bits is None else self.secure_sum_bits
        bound = self.secure_sum_bound
        try:
            return SumFormats(
                clients, bits, formats.bound if bound is None else bound, secure
            )
        except ValueError as error:
            field = "secure_sums"
            if self.secure_sum_bits is not None:
                field = "secure_sum_bits"
            raise self.refused(
                field, f"{error}; give more bits, or a smaller --cohort_size"
            ) from error
