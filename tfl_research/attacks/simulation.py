"""An update attack with its parameters, and client work that carries it out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research import clients, models, stateless_random
from tfl_research.attacks import update_attacks
from tfl_research.attacks.catalogue import (
    ATTACKS,
    LOCAL,
    OMNISCIENT,
    PERTURBATIONS,
    UPDATE_ATTACKS,
)
from tfl_research.attacks.roles import MALICIOUS
from tfl_research.tasks.objectives import Objective

_PERTURBED = ("min_max", "min_sum")
_FUNCTIONS: dict[str, Callable[..., tf.Tensor]] = {
    "gaussian": update_attacks.gaussian,
    "sign_flip": update_attacks.sign_flip,
    "scaled": update_attacks.scaled,
    "alie": update_attacks.alie,
    "inner_product": update_attacks.inner_product,
    "min_max": update_attacks.min_max,
    "min_sum": update_attacks.min_sum,
    "mimic": update_attacks.mimic,
}
# Differs from all step numbers, which are folded into the seed of a client's dropout.
_STREAM = -1


@dataclasses.dataclass(frozen=True)
class UpdateAttack:
    """An attack of `attacks.update_attacks`, by name; called like these functions.

    Attributes:
      name: one of `attacks.UPDATE_ATTACKS`.
      scale: by default the scale in `attacks.ATTACKS`.
      perturbation: for "min_max" and "min_sum": "unit", "std" (the default) or "sign".

    Raises:
      ValueError: the name is unknown, the attack does not have a parameter, or a
        parameter is out of range.
    """

    name: str
    scale: Optional[float] = None
    perturbation: Optional[str] = None

    def __post_init__(self) -> None:
        if self.name not in UPDATE_ATTACKS:
            raise ValueError(
                f"an update attack must be one of {', '.join(UPDATE_ATTACKS)}, got "
                f"{self.name!r}"
            )
        if self.scale is not None:
            if not ATTACKS[self.name].scale:
                raise ValueError(f"{self.name} has no scale, got {self.scale}")
            if not 0 <= self.scale < math.inf:
                raise ValueError(
                    f"scale must be at least 0 and finite, got {self.scale}"
                )
        if self.perturbation is not None:
            if self.name not in _PERTURBED:
                raise ValueError(
                    f"{self.name} has no perturbation, got {self.perturbation!r}"
                )
            if self.perturbation not in PERTURBATIONS:
                raise ValueError(
                    f"perturbation must be one of {', '.join(PERTURBATIONS)}, got "
                    f"{self.perturbation!r}"
                )

    @property
    def is_omniscient(self) -> bool:
        """Whether the attack uses the honest updates of the whole cohort."""
        return ATTACKS[self.name].kind == OMNISCIENT

    def __call__(
        self,
        updates: tf.Tensor,
        malicious: tf.Tensor,
        present: tf.Tensor,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Replaces the malicious rows of the updates; see `update_attacks`."""
        arguments: dict[str, Any] = {}
        if self.scale is not None:
            arguments["scale"] = self.scale
        if self.perturbation is not None:
            arguments["perturbation"] = self.perturbation
        return _FUNCTIONS[self.name](updates, malicious, present, seed, **arguments)


@dataclasses.dataclass(frozen=True)
class AttackedClientWork(clients.WrappedWork):
    """Client work whose malicious clients send other updates than they computed.

    The `role` of the client data marks malicious clients, see `ClientData.with_roles`.
    The updates of other clients are exactly the updates of `base`. Reports and states
    of all clients are honest.

    Attributes:
      base: the work that every client computes.
      attack: a local attack.

    Raises:
      ValueError: the attack is omniscient, so a single client cannot carry it out.
    """

    base: clients.ClientWork
    attack: UpdateAttack

    def __post_init__(self) -> None:
        if self.attack.is_omniscient:
            local = ", ".join(n for n, a in ATTACKS.items() if a.kind == LOCAL)
            raise ValueError(
                f"{self.attack.name} needs the honest updates, which a client does not "
                f"have: use aggregators.AttackedFactory, or one of {local}"
            )

    def build(
        self, model: models.FunctionalModel, objective: Objective
    ) -> clients.ClientFunction:
        """Builds a client's function, which attacks where the client is malicious.

        Raises:
          ValueError: while the function is traced, if the client data has no roles.
        """
        function = self.base.build(model, objective)

        def attacked(
            server_weights: Sequence[tf.Tensor],
            batches: Mapping[str, tf.Tensor],
            round_number: tf.Tensor,
            *shared: Any,
        ) -> clients.ClientResult:
            if "role" not in batches:
                raise ValueError(
                    "an attack needs clients with roles; use ClientData.with_roles"
                )
            result = function(server_weights, batches, round_number, *shared)
            sizes = [tf.size(u) for u in result.update]
            row = tf.concat([tf.reshape(u, [-1]) for u in result.update], axis=0)
            sent = self.attack(
                row[None, :],
                tf.equal(batches["role"], MALICIOUS)[None],
                tf.constant([True]),
                stateless_random.fold_in(batches["seed"], _STREAM),
            )[0]
            update = [
                tf.reshape(part, u.shape)
                for part, u in zip(tf.split(sent, sizes), result.update)
            ]
            return result._replace(update=update)

        return attacked
