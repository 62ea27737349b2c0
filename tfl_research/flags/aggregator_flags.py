"""Flags of the aggregator, where updates are aggregated without privacy."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Optional, Union

from tfl_research import aggregators
from tfl_research.flags import declare
from tfl_research.flags.declare import FlagError, FlagGroup

if TYPE_CHECKING:
    from tfl_research.flags.assembly import Setup

AVERAGES = ("mean", "robust", "zeroing", "clipping", "compression", "secure")
REPEATED = "repeated_geometric_median"
ROOTED = "trusted_root"
# The `role` of the participant that holds the server's own examples.
ROOT_ROLE = 2
STACKED = tuple(name for name in aggregators.RULES if name != "mean")
AGGREGATORS = (*AVERAGES, *STACKED, REPEATED, ROOTED)
# Those under which an attack that sees all updates can be simulated.
ATTACKABLE = ("mean", *STACKED, ROOTED)
_SKIP = "skip"
# Fallbacks that need no flag of their own.
_FALLBACKS = ("mean", "coordinate_median", "geometric_median", "trimmed_mean")
_EXPECTS_HOSTILE = ("trimmed_mean", "coordinate_median", "geometric_median")

# Flags that go with some aggregators only.
_OWNERS = {
    "byzantine": STACKED,
    "trim": ("trimmed_mean",),
    "krum_select": ("multi_krum",),
    "clip_radius": ("norm_clipping", "centered_clipping"),
    "clip_iterations": ("centered_clipping",),
    "clip_momentum": ("centered_clipping",),
    "weiszfeld_steps": (REPEATED,),
    "secure_sums": (REPEATED,),
    "root_examples": (ROOTED,),
    "bucket_size": STACKED,
    "neighbour_mixing": STACKED,
    "on_breakdown": STACKED,
}


@dataclasses.dataclass(frozen=True)
class AggregatorFlags(FlagGroup):
    """How the clients' updates become one."""

    TITLE: ClassVar[str] = "Aggregation"

    aggregator: str = declare.choice(
        "mean",
        "mean; zeroing, clipping or robust (both): TFF's adaptive ones; compression: "
        "8-bit quantisation of large tensors; secure: both of robust, over secure "
        "sums; the others are robust rules, see "
        "aggregators/rules. repeated_geometric_median takes sums only, one step a "
        "round; trusted_root (FLTrust) weighs updates by one of the server's own, in "
        "robust_fed_avg.py.",
        AGGREGATORS,
    )
    byzantine: Optional[int] = declare.integer(
        None,
        "f, clients of a cohort that may be hostile. krum, multi_krum, bulyan, "
        "mean_around_median and --neighbour_mixing need it; trimmed_mean takes off "
        "as many at either end.",
        minimum=0,
    )
    trim: Optional[float] = declare.real(
        None,
        "What trimmed_mean takes off at either end: a count, or below 0.5 a share of "
        "the cohort.",
        minimum=0,
    )
    krum_select: Optional[int] = declare.integer(
        None, "Updates that multi_krum averages; n - f - 2 of n.", minimum=1
    )
    clip_radius: Optional[float] = declare.real(
        None,
        "l2 norm that norm_clipping clips updates to, and centered_clipping their "
        "distance from its centre.",
        above=0,
    )
    clip_iterations: Optional[int] = declare.integer(
        None, "Iterations of centered_clipping; 1.", minimum=1
    )
    clip_momentum: Optional[float] = declare.real(
        None,
        "Momentum of the centre that centered_clipping keeps between rounds; 0 keeps "
        "the last result.",
        minimum=0,
        below=1,
    )
    weiszfeld_steps: Optional[int] = declare.integer(
        None,
        "Steps a round of repeated_geometric_median; 1. More need --runtime=tff.",
        minimum=1,
    )
    secure_sums: bool = declare.switch(
        False,
        "repeated_geometric_median adds what clients send by secure sums, of weights "
        "of at most 1 (--client_weighting uniform or capped).",
    )
    root_examples: Optional[int] = declare.integer(
        None,
        "Examples that the server trains on for trusted_root, drawn by --seed from "
        "all clients' before any attack; 100 in the paper.",
        minimum=1,
    )
    bucket_size: Optional[int] = declare.integer(
        None, "Average random buckets of so many updates before the rule.", minimum=1
    )
    neighbour_mixing: bool = declare.switch(
        False,
        "Replace every update by the mean of the n - f closest to it before the rule.",
    )
    on_breakdown: Optional[str] = declare.choice(
        None,
        "In a round with too few clients for the rule, or more hostile ones than it "
        "expects: skip leaves the model as it is, a rule is used instead where it can "
        "be. Needed where the sampler can draw such rounds.",
        (_SKIP, *_FALLBACKS),
    )

    def check(self) -> None:
        """See `FlagGroup.check`."""
        for field, owners in _OWNERS.items():
            given = getattr(self, field)
            if given is not None and given is not False:
                self._check_owner(field, owners)
        if self.trim is not None and self.trim >= 0.5 and self.trim != int(self.trim):
            raise self.refused("trim", "must be below 0.5, or a whole number")
        self._check_needs()

    def _check_owner(self, field: str, owners: tuple[str, ...]) -> None:
        if self.aggregator not in owners:
            named = "robust rules" if owners == STACKED else " and ".join(owners)
            raise self.refused(
                field,
                f"goes with --aggregator={named}, not with {self.aggregator}; leave it "
                "out",
            )

    def _check_needs(self) -> None:
        name = self.aggregator
        if name == ROOTED and self.root_examples is None:
            raise FlagError(f"--aggregator={name}: needs --root_examples too")
        if name in STACKED:
            for need in aggregators.RULES[name].needs:
                flag = {"radius": "clip_radius"}.get(need, need)
                found = getattr(self, flag)
                if flag == "trim" and found is None:
                    flag, found = "trim or --byzantine", self.byzantine
                if found is None:
                    raise FlagError(f"--aggregator={name}: needs --{flag} too")
        if self.neighbour_mixing and self.byzantine is None:
            raise FlagError("--neighbour_mixing: needs --byzantine too")
        if self.on_breakdown == "trimmed_mean" and self.byzantine is None:
            raise self.refused("on_breakdown", "needs --byzantine, which it takes off")

    @property
    def is_stacked(self) -> bool:
        """Whether a rule looks at the single updates.

        Clipping to a norm does not, as long as no flag asks for a stack of them.
        """
        if self.aggregator == "norm_clipping":
            return bool(
                self.byzantine is not None
                or self.on_breakdown is not None
                or self.neighbour_mixing
                or (self.bucket_size or 1) > 1
            )
        return self.aggregator in STACKED

    def rule(self, *, weighted: bool, seed: int) -> aggregators.RobustRule:
        """The rule of a stacked aggregator.

        Args:
          weighted: whether client weights differ.
          seed: of the random buckets.

        Raises:
          FlagError: parameters that do not go together.
        """
        trim: Union[int, float, None] = self.trim
        if trim is not None and (trim >= 0.5 or trim == 0):
            trim = int(trim)
        try:
            return aggregators.RobustRule(
                self.aggregator,
                byzantine=self.byzantine,
                trim=trim,
                select=self.krum_select,
                radius=self.clip_radius,
                iterations=self.clip_iterations or 1,
                center_momentum=self.clip_momentum or 0.0,
                weighted=weighted,
                neighbour_mixing=self.neighbour_mixing,
                bucket_size=self.bucket_size or 1,
                seed=seed,
            )
        except ValueError as error:
            raise FlagError(f"--aggregator={self.aggregator}: {error}") from error

    def policy(self, *, weighted: bool) -> Union[str, aggregators.RobustRule, None]:
        """What happens in a round that breaks the rule's condition."""
        name = self.on_breakdown
        if name is None or name == _SKIP:
            return name
        byzantine = self.byzantine if name in _EXPECTS_HOSTILE else None
        return aggregators.RobustRule(name, byzantine=byzantine, weighted=weighted)

    def check_with_privacy(self, mechanism: str) -> None:
        """Checks that the aggregator leaves a mechanism's guarantee whole.

        Args:
          mechanism: an event's `kind`; the mechanism's own mean is not asked about.

        Raises:
          FlagError: the pair is unsound, with the reason.
        """
        if self.aggregator == "mean":
            return
        names = [self.aggregator]
        names += ["bucketing"] if (self.bucket_size or 1) > 1 else []
        names += ["nearest_neighbour_mixing"] if self.neighbour_mixing else []
        try:
            for name in names:
                aggregators.check_with_privacy(name, mechanism)
        except ValueError as error:
            raise self.refused("aggregator", str(error)) from error

    def check_with(self, parts: Setup, *, has_root: bool = False) -> None:
        """Checks the rule against weights, cohort sizes and runtime.

        Args:
          parts: of the experiment.
          has_root: whether the experiment gives the server examples of its own.

        Raises:
          FlagError: weights that the rule is not defined for, cohorts that can be too
            small for it, steps that the runtime does not execute, a trusted root
            where there is none, votes that would move every weight by 1.
        """
        if self.aggregator == ROOTED and not has_root:
            raise self.refused(
                "aggregator",
                "needs examples of the server's own, which only "
                "experiments/robust_fed_avg.py gives it; use that, or another rule",
            )
        if (self.weiszfeld_steps or 1) > 1 and parts.runtime.runtime != "tff":
            raise self.refused(
                "weiszfeld_steps",
                "each step is an aggregation of its own, which only --runtime=tff "
                "executes; give that, or 1",
            )
        kind = parts.weighting.client_weighting
        if self.secure_sums and kind == "examples":
            raise self.refused(
                "secure_sums",
                "numbers of examples have no bound that a secure sum could have; give "
                "--client_weighting=uniform or capped",
            )
        if self.aggregator == "sign_majority" and parts.server.learning_rate >= 1:
            raise self.refused(
                "aggregator",
                "its result is -1, 0 or 1 in every coordinate, of which the server's "
                "learning rate makes the step; give --server_learning_rate below 1, "
                "such as 0.003",
            )
        if not (self.is_stacked or self.aggregator == ROOTED):
            return
        weighted = kind != "uniform"
        if weighted and not (
            self.is_stacked and aggregators.RULES[self.aggregator].weighted
        ):
            raise FlagError(
                f"--client_weighting={kind}: {self.aggregator} is defined for equal "
                "weights only; give --client_weighting=uniform"
            )
        if not self.is_stacked:
            return
        rule = self.rule(weighted=weighted, seed=parts.run.seed)
        smallest = parts.sampler.minimum_cohort_size
        largest = parts.sampler.maximum_cohort_size
        try:
            aggregators.check_cohort(
                rule, smallest, largest, has_policy=self.on_breakdown is not None
            )
        except ValueError as error:
            fix = "raise --cohort_size or lower --byzantine"
            if rule.smallest_cohort <= largest:
                fix = "give --on_breakdown, or --sampler=fixed"
            raise FlagError(
                f"--aggregator={self.aggregator}: {error}; {fix}"
            ) from error
