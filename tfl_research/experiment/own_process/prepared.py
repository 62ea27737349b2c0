"""A checked experiment with a process: its form, clients, cohorts and plan.

Imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any, Optional

from tfl_research import outputs, processes
from tfl_research.errors import SettingError
from tfl_research.experiment.configs import Cohorts, Training
from tfl_research.experiment.own_process import evaluation, noise
from tfl_research.experiment.own_process.client_digest import ValuesDigest, digest_of
from tfl_research.experiment.own_process.client_values import ProcessClients, clients_of
from tfl_research.experiment.own_process.plans import check_release, plan_of, planned
from tfl_research.experiment.own_process.process_form import (
    ProcessForm,
    form_of,
    short_type,
)
from tfl_research.outputs.columns import COHORT
from tfl_research.privacy import DeclaredPlan
from tfl_research.sampling import Sampler

if TYPE_CHECKING:
    from tfl_research.experiment.own_process.process_experiment import (
        ProcessExperiment,
    )

# Columns that the toolkit's mechanisms compute, and that a process may compute in
# another way.
_UNPROVEN = (
    "clip_norm",
    "aggregator_noise_stddev",
    "client_learning_rate",
    "server_learning_rate",
)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A checked experiment with its process.

    Attributes:
      experiment: the experiment, as the user described it.
      form: the process in the form that engines execute.
      clients: the clients, with a value for each.
      training: length, seeds and checkpoints.
      cohort_settings: the settings of the cohorts, with a sampler by name.
      cohorts: the cohorts, drawn by the public seed.
      randomness: the random operations of the computation.
      plan: the declared plan, which is charged; None without a declaration.
      evaluator: the evaluator of the model, or None.
      exporter: the exporter of the model.
    """

    experiment: ProcessExperiment
    form: ProcessForm
    clients: ProcessClients
    training: Training
    cohort_settings: Cohorts
    cohorts: Sampler
    randomness: noise.Randomness
    plan: Any
    evaluator: Any
    exporter: evaluation.Exporter

    @property
    def is_repeatable(self) -> bool:
        """Whether a repeated round is charged once."""
        plan = self.plan
        return not isinstance(plan, DeclaredPlan) or plan.repeatable

    @property
    def selection_metric(self) -> Optional[str]:
        """The metric that selects the best model if the user names none, or None."""
        return None if self.experiment.test is None else "loss"

    def values_digest(self) -> Optional[ValuesDigest]:
        """Returns the digest of the clients' values; None without clients.

        Raises:
          SettingError: a value cannot be read, or noise by a seed could be added to
            other data.
        """
        if self.form.client_type is None:
            return None
        must_be_same = self.plan is not None and self.is_repeatable
        if must_be_same and self.clients.is_function:
            raise SettingError(
                "clients: noise by a seed must never be used on other data, but the "
                "values of a function cannot all be compared; give a mapping from ids "
                "to values, or ProcessPrivacy(repeatable=False), so that every "
                "execution is charged"
            )
        found = digest_of(self.clients)
        if must_be_same:
            found.check_same()
        return found

    def hparams(self, values: Optional[ValuesDigest]) -> dict[str, Any]:
        """Returns the settings and facts about the data that the run's folder records.

        Args:
          values: the result of `values_digest`. A private run keeps this digest where
            only the owner can read it.
        """
        experiment = self.experiment
        data = {}
        if values is not None and self.plan is None:
            data["data_sha256"] = values.sha256
        return {
            "process": type(experiment.process).__name__,
            "client_type": short_type(self.form.client_type),
            "num_clients": len(self.clients.client_ids),
            "expected_cohort_size": self.cohorts.expected_cohort_size,
            "public_data": experiment.public_data,
            "evaluation": _kind_of_evaluation(experiment),
            **data,
            **self.cohort_settings.flat(),
            **self.cohort_settings.digest(self.clients.client_ids, self.training.seed),
            **self.training.flat(),
            **experiment.release.flat(),
            **experiment.runtime.flat(),
        }

    def ids_digest(self) -> str:
        """Computes the SHA-256 of the clients' ids."""
        text = repr(self.clients.client_ids)
        return hashlib.sha256(text.encode()).hexdigest()

    def release(self) -> outputs.Release:
        """Returns the filter of the run's outputs.

        Only the user knows how a process computes its measurements. So all measurements
        are exact, unless the user declares that the event covers them.
        """
        experiment = self.experiment
        if self.plan is None:
            return outputs.Release()
        sizes = self.cohorts.minimum_cohort_size, self.cohorts.maximum_cohort_size
        covers = () if experiment.privacy is None else experiment.privacy.covers
        return outputs.Release(
            is_private=True,
            withholds=experiment.release.withhold_exact or not experiment.public_data,
            named=frozenset(experiment.release.release_exact),
            public=frozenset(COHORT) if sizes[0] == sizes[1] else frozenset(),
            unproven=frozenset(_UNPROVEN),
            proven=frozenset(covers),
        )


def prepare(experiment: ProcessExperiment) -> Prepared:
    """Reads the process, and checks that all parts fit together.

    `Prepared.values_digest` reads and checks the clients' values.

    Raises:
      SettingError: two parts do not fit together; the message says the fix.
    """
    form = form_of(experiment.process)
    _check_no_client_states(experiment.process)
    clients = clients_of(experiment.clients, experiment.client_ids, form.client_type)
    training = experiment.training
    if training is None:
        training = Training(rounds=1) if form.is_computation else Training()
    for name in ("client_weight", "max_evaluation_examples"):
        if getattr(training, name):
            raise training.refused(name, "goes with tasks only; leave it out")
    settings = _cohorts(experiment, form)
    cohorts = settings.build(clients.client_ids, training.seed)
    randomness = noise.randomness(form.process)
    plan = planned(experiment, settings, cohorts, training, randomness)
    check_release(experiment, form, plan)
    evaluator, exporter = _evaluation(experiment, form, training)
    return Prepared(
        experiment,
        form,
        clients,
        training,
        settings,
        cohorts,
        randomness,
        plan,
        evaluator,
        exporter,
    )


def _cohorts(experiment: ProcessExperiment, form: ProcessForm) -> Cohorts:
    cohorts = experiment.cohorts
    if form.client_type is None:
        if cohorts != Cohorts():
            raise SettingError(
                "cohorts: the process takes no clients' values; leave cohorts out"
            )
        return Cohorts("full")
    if cohorts.sampler is not None:
        return cohorts
    sampler = "fixed"
    if experiment.privacy is not None or plan_of(experiment.process) is not None:
        sampler = "poisson"
    elif form.is_computation and cohorts.cohort_size is None:
        sampler = "full"
    return dataclasses.replace(cohorts, sampler=sampler)


def _check_no_client_states(process: Any) -> None:
    if isinstance(process, processes.FederatedProcess) and process.client_states:
        raise SettingError(
            "process: its clients keep a state between rounds, in a table that goes "
            "with a task; give the algorithm to tfl.Experiment"
        )


def _evaluation(
    experiment: ProcessExperiment, form: ProcessForm, training: Training
) -> tuple[Any, evaluation.Exporter]:
    has_model = "global_model_weights" in _state_members(form) or isinstance(
        experiment.process, _learning_process()
    )
    if experiment.evaluate is not None and experiment.test is not None:
        raise SettingError("evaluate: does not go with test; give one of the two")
    if experiment.test is not None and experiment.model is None:
        raise SettingError(
            "model is missing: test examples need a model to evaluate; give model=, "
            "or evaluate= in the place of test"
        )
    if experiment.model is not None and not has_model:
        raise SettingError(
            "model: the state of the process has no global_model_weights; leave model "
            "out"
        )
    built = None
    if experiment.model is not None:
        built = evaluation.built_model(experiment.model)
    evaluator: Any = None
    if experiment.test is not None and built is not None:
        evaluator = evaluation.ModelEvaluation(built, experiment.test)
        if evaluation.is_builder(experiment.model):
            evaluator.check_builder(evaluation.built_model(experiment.model))
    elif experiment.evaluate is not None:
        evaluator = evaluation.FunctionEvaluation(experiment.evaluate)
    if evaluator is None:
        for name in ("selection_metric", "early_stopping_patience"):
            if getattr(training, name) is not None:
                raise training.refused(
                    name,
                    "nothing is evaluated; give evaluate= or test=, or leave it out",
                )
    elif (
        experiment.test is None
        and training.selection_metric is None
        and training.early_stopping_patience is not None
    ):
        raise training.refused(
            "early_stopping_patience",
            "needs a selection_metric of evaluate; give selection_metric too",
        )
    exporter = evaluation.Exporter(built, has_model)
    if training.export:
        exporter.check()
    return evaluator, exporter


def _learning_process() -> Any:
    import tensorflow_federated as tff

    return tff.learning.templates.LearningProcess


def _state_members(form: ProcessForm) -> list[Optional[str]]:
    import tensorflow_federated as tff

    if not isinstance(form.state_type, tff.StructType):
        return []
    return [name for name, _ in tff.structure.iter_elements(form.state_type)]


def _kind_of_evaluation(experiment: ProcessExperiment) -> str:
    if experiment.test is not None:
        return "model"
    return "none" if experiment.evaluate is None else "function"
