"""Sums of integer vectors in which the server sees only the total.

The protocol is Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving
Machine Learning" (CCS 2017), Figure 4. The protection assumes that the server follows
the protocol. docs/secure_sums.md says what is protected against whom.

- `terms`: what all parties of a sum agree on: session, parties, threshold, vectors.
- `vectors`: integers and their residues modulo m.
- `primitives`: key agreement, key derivation, encryption of shares.
- `keys`: the keys of one sum, by their purpose.
- `masks`: uniform residues from a key, added to a vector block by block.
- `shamir`: secret sharing.
- `wire`: messages as dicts of arrays, checked when they are read.
- `party`, `server_messages`, `party_state`: a party's four steps, what it refuses, and
  its state as bytes.
- `collector`: the server's four steps.
- `site_sums`: a site's parties in a folder; which sums a site refuses to open.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.federation.secure_sums.collector import Collector as Collector
    from tfl_research.federation.secure_sums.errors import (
        SecureSumError as SecureSumError,
        SumAbandonedError as SumAbandonedError,
    )
    from tfl_research.federation.secure_sums.party import Party as Party
    from tfl_research.federation.secure_sums.site_sums import SiteSums as SiteSums
    from tfl_research.federation.secure_sums.terms import (
        SumTerms as SumTerms,
        default_threshold as default_threshold,
        session_of as session_of,
    )
    from tfl_research.federation.secure_sums.vectors import VectorSpec as VectorSpec
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
