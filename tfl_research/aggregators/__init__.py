"""TFF aggregation factories for model updates, and robust rules on stacked updates.

A specification such as `Mean()` or `Krum(byzantine=2)` chooses an aggregator without
TensorFlow. `build` makes a TFF aggregation factory from the specification. `privacy`
has the mechanisms of differential privacy, and `clients` has the clients' work.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy
from tfl_research.aggregators.catalogue import (
    Clipping as Clipping,
    Compression as Compression,
    Mean as Mean,
    RepeatedGeometricMedian as RepeatedGeometricMedian,
    Robust as Robust,
    Secure as Secure,
    TrustedRoot as TrustedRoot,
    Zeroing as Zeroing,
)
from tfl_research.aggregators.clipping_catalogue import (
    CenteredClipping as CenteredClipping,
    NormClipping as NormClipping,
)
from tfl_research.aggregators.contract import (
    UpdateAggregator as UpdateAggregator,
    declarations as declarations,
)
from tfl_research.aggregators.rule_catalogue import (
    Bulyan as Bulyan,
    CoordinateMedian as CoordinateMedian,
    GeometricMedian as GeometricMedian,
    Krum as Krum,
    MeanAroundMedian as MeanAroundMedian,
    MultiKrum as MultiKrum,
    SignMajority as SignMajority,
    TrimmedMean as TrimmedMean,
)
from tfl_research.aggregators.rule_specification import (
    MeanRule as MeanRule,
    RuleSettings as RuleSettings,
)
from tfl_research.aggregators.secure_sums.formats import SumFormats as SumFormats
from tfl_research.aggregators.specification import (
    AGGREGATORS as AGGREGATORS,
    NOISED_AT as NOISED_AT,
    ROOT_ROLE as ROOT_ROLE,
    AggregatorContext as AggregatorContext,
    AggregatorSettings as AggregatorSettings,
    register as register,
)

if TYPE_CHECKING:
    from tfl_research.aggregators import rules as rules
    from tfl_research.aggregators.attacked import AttackedFactory as AttackedFactory
    from tfl_research.aggregators.averaging import (
        clipping as clipping,
        compression as compression,
        mean as mean,
        robust as robust,
        secure as secure,
        zeroing as zeroing,
    )
    from tfl_research.aggregators.norm_clipping import (
        NormClippingFactory as NormClippingFactory,
    )
    from tfl_research.aggregators.repeated_mean import (
        RepeatedMeanFactory as RepeatedMeanFactory,
    )
    from tfl_research.aggregators.stacking import StackingFactory as StackingFactory
    from tfl_research.aggregators.trusted_root import (
        TrustedRootFactory as TrustedRootFactory,
    )
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
