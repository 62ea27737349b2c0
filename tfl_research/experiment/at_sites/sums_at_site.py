"""The secure sums of one run at a site: their terms, and the site's masked reports."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfl_research.federation.secure_sums import SiteSums, SumTerms, VectorSpec
from tfl_research.federation.secure_sums.terms import LEAST_PARTIES
from tfl_research.federation.site.site_file import SiteFile
from tfl_research.federation.summing import SHARES, UNMASK
from tfl_research.federation.wire.handler import Refused
from tfl_research.federation.wire.messages import Message, MessageError
from tfl_research.runtime.rounds.separate import SeparateProcess


class SumsAtSite:
    """Takes a site's part in the secure sums of a run.

    Args:
      site: the content of site.toml.
      run: the name of the run.
      process: the process whose reports are summed.
    """

    def __init__(self, site: SiteFile, run: str, process: SeparateProcess):
        self._sums = SiteSums(site.folder / "sums", site.name)
        self._run, self._process = run, process
        self._summed: tuple[int, int, list[np.ndarray]] = (0, 0, [])

    def terms(self, number: int, request: Message) -> tuple[int, SumTerms]:
        """Returns the attempt at a round's secure sum, and the proposed terms.

        Raises:
          MessageError: the request has no terms, or terms of another process.
        """
        try:
            begun = request.mapping("sum")
            attempt, terms = int(begun["attempt"]), SumTerms.from_json(begun["terms"])
        except (KeyError, TypeError, ValueError) as error:
            raise MessageError(
                f"round {number}: the request has no terms of a secure sum"
            ) from error
        expected = [
            VectorSpec(shape, dtype.name, m)
            for dtype, shape, m in self._process.secure_layout
        ]
        if list(terms.vectors) != expected or len(terms.parties) < LEAST_PARTIES:
            raise MessageError(
                f"round {number}: the terms of the secure sum do not fit this site's "
                "process"
            )
        return attempt, terms

    def begin(
        self,
        number: int,
        attempt: int,
        terms: SumTerms,
        reports: Sequence[Sequence[np.ndarray]],
    ) -> Message:
        """Begins a secure sum: returns public keys, keeps the reports for masking."""
        first = self._process.clients.num_plain_leaves
        vectors = []
        layout = self._process.secure_layout
        for position, (dtype, _, modulus) in enumerate(layout):
            total = reports[0][first + position]
            for report in reports[1:]:
                total = total + report[first + position]
                if modulus < 2 ** (8 * dtype.itemsize):
                    total = np.mod(total, np.asarray(modulus, dtype))
            vectors.append(total)
        self._summed = (number, attempt, vectors)
        return Message("round", {}, self._sums.keys(self._run, number, attempt, terms))

    def step(self, request: Message) -> Message:
        """Takes a further step of a secure sum.

        Raises:
          SecureSumError: the step does not fit, or would show a single vector.
        """
        number, attempt = request.integer("round"), request.integer("attempt")
        arguments = (self._run, number, attempt, request.tensors)
        if request.kind == SHARES:
            answer = self._sums.shares(*arguments)
        elif request.kind == UNMASK:
            answer = self._sums.unmask(*arguments)
        else:
            if self._summed[:2] != (number, attempt):
                raise Refused(
                    f"round {number}: this site has started again since the secure "
                    "sum began, and takes no further part in that sum"
                )
            answer = self._sums.masked(*arguments, self._summed[2])
        return Message(request.kind, {}, answer)

    def forget_after(self, after: int) -> None:
        """Drops the record of later rounds, which will be repeated with new noise."""
        self._sums.forget_after(self._run, after)

    def end(self) -> None:
        """Drops the keys of the run's last sum."""
        self._sums.end(self._run)
