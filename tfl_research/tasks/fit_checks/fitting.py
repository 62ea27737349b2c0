"""Checks that data and model fit together: heads, labels and token ids.

A model would train to nonsense, and differently under each compiler, if a head did not
fit the loss, if the loss did not take the labels, or if an embedding lacked token ids.
So such data and models are refused before training, on every runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from tfl_research.data import ClientData, Examples
from tfl_research.data.arrays import structures
from tfl_research.errors import UserError
from tfl_research.models import global_seed
from tfl_research.tasks.fit_checks import heads, same_function

if TYPE_CHECKING:
    from tfl_research.models import FunctionalModel
    from tfl_research.tasks.fit_checks.embedded_ids import EmbeddedIds
    from tfl_research.tasks.fit_checks.float_inputs import FloatInputs
    from tfl_research.tasks.objectives import Objective
    from tfl_research.tasks.objectives.rules import Rule
    from tfl_research.tasks.task import Task

# Number of examples on which heads are checked, and of clients loaded to find them.
_PROBED, _SEARCHED = 8, 20


class _Heads(NamedTuple):
    """The checks of labels, token ids and integers for the model's heads and inputs.

    Attributes:
      rules: the rules of labels, by array, with the shape of an example's outputs.
      ids, floats: check token ids and integers; None if the model is not a Keras model.
    """

    rules: list[tuple[str, Rule, tuple[int, ...]]]
    ids: Optional[EmbeddedIds]
    floats: Optional[FloatInputs]


class Fitting:
    """Checks that a task's data, model and objective fit together.

    A task and its copies with other clients share a `Fitting`. The model is checked
    when it is first made. Each client is checked once: clients in memory together with
    the model, other clients when they are first in a cohort or an evaluation, or before
    a private run.

    Args:
      build_model, build_objective: the functions of the task that build them.
    """

    def __init__(
        self,
        build_model: Optional[Callable[[], Any]] = None,
        build_objective: Optional[Callable[[], Objective]] = None,
    ):
        self._of = build_model, build_objective
        self._is_checked = False
        self._heads = _Heads([], None, None)
        # Checks of heads in other runs, by types and shapes of the clients' arrays.
        self._known: dict[Hashable, _Heads] = {}
        self._seen: set[tuple[str, str]] = set()
        # Names of passed checks of the model alone, also from other runs.
        self._found: set[str] = set()

    def of(
        self, build_model: Callable[[], Any], build_objective: Callable[[], Objective]
    ) -> Fitting:
        """Returns this object for the same model and objective, else a new object."""
        if self._of[0] is build_model and self._of[1] is build_objective:
            return self
        return Fitting(build_model, build_objective)

    def again(self) -> Fitting:
        """Makes a `Fitting` for another run, which may have other clients.

        It does not check the model's heads again for arrays of types and shapes that
        were already checked.
        """
        fresh = Fitting(*self._of)
        fresh._known, fresh._found = self._known, self._found
        return fresh

    def once(self, name: str, check: Callable[[], None]) -> None:
        """Executes a check of the model alone, unless the check has passed before.

        Args:
          name: name of the check; runs with the same model share passed checks.
          check: raises an error if something is wrong.
        """
        if name not in self._found:
            check()
            self._found.add(name)

    def check(self, client_id: str, examples: Examples, split: str = "train") -> None:
        """Checks a client's labels and token ids, once, if the model is known.

        Raises:
          UserError: a label or an id does not fit; the message names the client, the
            row, the value and the fix.
        """
        if (split, client_id) in self._seen or not self._is_checked:
            return
        for name, rule, shape in self._heads.rules:
            labels = np.asarray(examples[name])
            wrong = rule.wrong_label(labels, shape) if len(labels) else None
            if wrong is not None:
                raise UserError(
                    f"client {client_id!r}, {name} row {wrong}{_counted(split)}"
                )
        self._check_ids(client_id, examples, split)
        self._seen.add((split, client_id))

    def check_everyone(self, task: Task) -> None:
        """Checks all clients, if the model is known; each is loaded.

        Raises:
          UserError: see `check`.
        """
        for split, clients in _splits(task).items():
            for client_id, held in clients.different_items():
                self.check(client_id, held, split)

    def _check_ids(self, client_id: str, examples: Examples, split: str) -> None:
        wrong = self._wrong_input(examples)
        if wrong is not None:
            raise UserError(f"client {client_id!r}, x row {wrong}{_counted(split)}")

    def _wrong_input(self, examples: Examples) -> Any:
        """Finds the first row that the model does not take, or None."""
        wrong = None if self._heads.ids is None else self._heads.ids.wrong_id(examples)
        if wrong is None and self._heads.floats is not None:
            wrong = self._heads.floats.wrong_number(examples)
        return wrong

    def check_model(self, task: Task, model: FunctionalModel) -> None:
        """Checks the model's head on some real examples, and all clients in memory.

        Raises:
          UserError: the head, a label or a token does not fit; the first line says
            what to change.
        """
        if self._is_checked:
            return
        found = _probe(task)
        if found is None:
            return
        split, client_id, examples = found
        probe = {n: np.asarray(array)[:_PROBED] for n, array in examples.items()}
        arrays = tuple((n, a.dtype.str, a.shape[1:]) for n, a in probe.items())
        if arrays in self._known:
            self._take(self._known[arrays])
        else:
            self._check_heads(task, model, client_id, probe, split)
            self._known[arrays] = self._heads
        self._is_checked = True
        self.check(client_id, examples, split)
        for split, clients in _splits(task).items():
            if clients.in_memory:
                for client_id, held in clients.different_items():
                    self.check(client_id, held, split)

    def _take(self, known: _Heads) -> None:
        """Uses the results of an earlier check of the heads."""
        self._heads = known
        if known.floats is not None:
            # Building the model would have left the global seed in this state.
            global_seed.leave(0)

    def _check_heads(
        self,
        task: Task,
        model: FunctionalModel,
        client_id: str,
        probe: dict[str, np.ndarray],
        split: str,
    ) -> None:
        """Checks the heads on a client's first examples; see `check_model`."""
        keras_model = heads.keras_model(task)
        if keras_model is not None:
            from tfl_research.tasks.fit_checks.embedded_ids import EmbeddedIds
            from tfl_research.tasks.fit_checks.float_inputs import FloatInputs

            self._heads = _Heads(
                [], EmbeddedIds(keras_model), FloatInputs(keras_model, probe)
            )
            self._check_ids(client_id, probe, split)
        if structures.num_examples(probe) == 1:
            probe = self._with_others(task, probe)
        objective = task.build_objective()
        try:
            predictions = heads.predictions(client_id, model, probe)
            same_function.check(task, model, keras_model, probe, predictions[0])
            rules = heads.checked(objective, keras_model, probe, predictions)
        except ValueError as error:
            raise UserError(f"task {task.name}: {error}") from error
        if keras_model is None:
            heads.compare_losses(task, model, objective, probe)
        self._heads = self._heads._replace(rules=rules)

    def _with_others(
        self, task: Task, probe: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Adds examples of other clients to a single example.

        A single example does not show whether a loss or a metric mixes examples.
        """
        shapes = {name: array.shape[1:] for name, array in probe.items()}
        found = [probe]
        for clients in _splits(task).values():
            for client_id in clients.here[:_SEARCHED]:
                held = structures.example_arrays(clients.load(client_id))
                more = {n: np.asarray(array)[:_PROBED] for n, array in held.items()}
                alike = {n: array.shape[1:] for n, array in more.items()} == shapes
                if alike and self._wrong_input(more) is None:
                    found.append(more)
        return {n: np.concatenate([f[n] for f in found])[:_PROBED] for n in shapes}


def _counted(split: str) -> str:
    """Says how an error counts rows if a client's examples were divided."""
    parts = {"train": "training", "eval": "test"}
    return f"; rows are those of its {parts[split]} split" if split in parts else ""


def _splits(task: Task) -> dict[str, ClientData]:
    splits = {
        "train": task.train,
        "eval": task.test,
        "held_out": task.held_out,
        **task.further_splits,
    }
    return {name: split for name, split in splits.items() if split is not None}


def _probe(task: Task) -> Optional[tuple[str, str, Examples]]:
    """Returns split, id and some examples of the first client that has examples."""
    for split, clients in _splits(task).items():
        for client_id in clients.here[:_SEARCHED]:
            held = clients.load(client_id)
            arrays = structures.example_arrays(held)
            if structures.num_examples(arrays):
                return split, client_id, arrays
    return None
