"""Differential privacy: five packages, each importing only those below it.

- `audit`: lower bounds of ε, measured by attacks.
- `ledger`: ledgers, accounts that charge rounds, and privacy statements.
- `plans`: one object with a run's mechanism, noise, sampling, δ and event.
- `mechanisms`: aggregators that clip and add noise; they alone import TensorFlow.
- `accounting`: events, ε of composed rounds, calibration and planning.

No other package imports tensorflow_privacy or dp_accounting. This package does not
import tasks or the round loop.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.privacy import mechanisms as mechanisms
    from tfl_research.privacy.accounting.budget import (
        default_delta as default_delta,
        delta_warning as delta_warning,
    )
    from tfl_research.privacy.accounting.calibration import (
        calibrate_event as calibrate_event,
        calibrate_noise_multiplier as calibrate_noise_multiplier,
    )
    from tfl_research.privacy.accounting.composition import (
        ACCOUNTANTS as ACCOUNTANTS,
        EpsilonCurve as EpsilonCurve,
        composed_epsilon as composed_epsilon,
        composed_zcdp as composed_zcdp,
        epsilon_curve as epsilon_curve,
        resolve_accountant as resolve_accountant,
    )
    from tfl_research.privacy.accounting.distributed_calibration import (
        calibrate_distributed as calibrate_distributed,
    )
    from tfl_research.privacy.accounting.distributed_plan import (
        DistributedPlan as DistributedPlan,
        plan_distributed as plan_distributed,
    )
    from tfl_research.privacy.accounting.events import (
        EVENTS as EVENTS,
        Event as Event,
        NoisedEvent as NoisedEvent,
        event_from_dict as event_from_dict,
        register_event as register_event,
    )
    from tfl_research.privacy.accounting.events.discrete_gaussian_event import (
        DiscreteGaussianEvent as DiscreteGaussianEvent,
    )
    from tfl_research.privacy.accounting.events.gaussian_event import (
        GaussianEvent as GaussianEvent,
    )
    from tfl_research.privacy.accounting.events.local_gaussian_event import (
        LocalGaussianEvent as LocalGaussianEvent,
    )
    from tfl_research.privacy.accounting.events.matrix_event import (
        MatrixEvent as MatrixEvent,
    )
    from tfl_research.privacy.accounting.events.pure_event import PureEvent as PureEvent
    from tfl_research.privacy.accounting.events.record_event import (
        RecordEvent as RecordEvent,
    )
    from tfl_research.privacy.accounting.events.search_event import (
        HyperparameterSearchEvent as HyperparameterSearchEvent,
    )
    from tfl_research.privacy.accounting.events.skellam_event import (
        SkellamEvent as SkellamEvent,
    )
    from tfl_research.privacy.accounting.events.tree_event import TreeEvent as TreeEvent
    from tfl_research.privacy.accounting.record_calibration import (
        calibrate_record_noise as calibrate_record_noise,
        default_record_deltas as default_record_deltas,
    )
    from tfl_research.privacy.accounting.relations import Total as Total
    from tfl_research.privacy.accounting.totals import composed_total as composed_total
    from tfl_research.privacy.ledger.accounts.record_account import (
        RecordAccount as RecordAccount,
    )
    from tfl_research.privacy.ledger.accounts.round_account import (
        RoundAccount as RoundAccount,
    )
    from tfl_research.privacy.ledger.accounts.run_ledgers import (
        ChargeError as ChargeError,
    )
    from tfl_research.privacy.ledger.clients.client_ledgers import (
        ClientLedgers as ClientLedgers,
    )
    from tfl_research.privacy.ledger.identity import (
        NO_RUN as NO_RUN,
        Population as Population,
        run_id as run_id,
    )
    from tfl_research.privacy.ledger.ledger import Ledger as Ledger
    from tfl_research.privacy.ledger.lines.entries import (
        MissingPluginError as MissingPluginError,
    )
    from tfl_research.privacy.ledger.lines.header import RunIdentity as RunIdentity
    from tfl_research.privacy.ledger.shared.shared_checks import (
        PopulationError as PopulationError,
    )
    from tfl_research.privacy.ledger.shared.shared_ledger import (
        BudgetExceededError as BudgetExceededError,
        SharedLedger as SharedLedger,
    )
    from tfl_research.privacy.ledger.spending import (
        RunSpent as RunSpent,
        Spending as Spending,
        read_ledger as read_ledger,
    )
    from tfl_research.privacy.mechanisms.catalogue.registry import (
        MECHANISMS as MECHANISMS,
        register_mechanism as register_mechanism,
    )
    from tfl_research.privacy.mechanisms.catalogue.run_context import (
        MechanismContext as MechanismContext,
        RunShape as RunShape,
    )
    from tfl_research.privacy.mechanisms.catalogue.specification import (
        MechanismSettings as MechanismSettings,
    )
    from tfl_research.privacy.mechanisms.correlated_mechanisms import (
        banded_matrix_aggregator as banded_matrix_aggregator,
        tree_aggregator as tree_aggregator,
    )
    from tfl_research.privacy.mechanisms.distributed_sum import (
        discrete_gaussian_aggregator as discrete_gaussian_aggregator,
        skellam_aggregator as skellam_aggregator,
    )
    from tfl_research.privacy.mechanisms.independent import (
        adaptive_gaussian_aggregator as adaptive_gaussian_aggregator,
        bounded_weight_aggregator as bounded_weight_aggregator,
        gaussian_aggregator as gaussian_aggregator,
    )
    from tfl_research.privacy.mechanisms.local_gaussian import (
        local_gaussian_aggregator as local_gaussian_aggregator,
    )
    from tfl_research.privacy.mechanisms.local_rule import (
        local_gaussian_rule as local_gaussian_rule,
    )
    from tfl_research.privacy.mechanisms.noise import factorization as factorization
    from tfl_research.privacy.plans.declared import DeclaredPlan as DeclaredPlan
    from tfl_research.privacy.plans.plan import PrivacyPlan as PrivacyPlan
    from tfl_research.privacy.plans.probe import probe_noise as probe_noise
    from tfl_research.privacy.plans.record_level import (
        RecordLevelPlan as RecordLevelPlan,
    )
    from tfl_research.privacy.plans.user_level import (
        Mechanism as Mechanism,
        UserLevelPlan as UserLevelPlan,
    )
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
