"""Makes the key of a run's noise, and the engine with this key; imports TensorFlow."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from typing import Any

import numpy as np

from tfl_research import privacy, processes, runtime
from tfl_research.errors import SettingError
from tfl_research.experiment.running import building, engines
from tfl_research.experiment.setup import Setup
from tfl_research.privacy.mechanisms.noised_sum import seed_tensor
from tfl_research.runtime import keyed
from tfl_research.storage import RunFolder, nest

# Every private process is first built with this seed. So its digest depends on no
# secret, and the key can depend on the digest.
PUBLIC_SEED = int.from_bytes(
    hashlib.sha256(b"tfl_research: in the place of the key").digest()[:16], "big"
)
# A second seed, which shows where a user's own mechanism keeps its seed.
_OTHER_SEED = PUBLIC_SEED ^ 1


def digests(setup: Setup, process: processes.FederatedProcess) -> dict[str, str]:
    """Computes the digests of a run's computation, which are equal on every runtime.

    A runtime that cannot execute secure sums gets another process. That process adds
    the same integers, so it has the same digests and key.

    Args:
      setup: the setup of the run.
      process: the process that was built with `PUBLIC_SEED`.
    """
    plan = setup.user_level
    sums = setup.experiment.secure_sums.secure_sums or (
        plan is not None and plan.distributed is not None
    )
    if not sums or building.has_secure_sums(setup):
        return runtime.computation_digests(process)
    secure = building.process(setup, noise_seed=PUBLIC_SEED, secure=True)
    return runtime.computation_digests(secure)


def check_repeatable(setup: Setup, process: processes.FederatedProcess) -> None:
    """Refuses a private run if a resumed run could not repeat its rounds exactly.

    Otherwise a repeated round could add the same noise to another sum. A run without
    privacy only gets a warning.

    Args:
      setup: the setup of the run.
      process: the process of the run.

    Raises:
      SettingError: an operation draws from a generator with a state, or calls Python.
    """
    found = runtime.unrepeatable_operations(process)
    if not found:
        return
    has = (
        f"the model, the objective or another part of the run has the TensorFlow "
        f"operations {', '.join(found)}, which draw from a generator with a state or "
        "call Python"
    )
    if setup.plan is None:
        warnings.warn(
            f"{has}: a run that is repeated or resumed draws other numbers; "
            "tf.random.stateless_... with a seed draws the same numbers",
            stacklevel=2,
        )
        return
    raise SettingError(
        f"--task={setup.task.name}: {has}, so a resumed run would add the same noise "
        "to other values; use tf.random.stateless_… and TensorFlow's operations, or "
        "leave the privacy out"
    )


def in_state(setup: Setup, process: processes.FederatedProcess) -> bool:
    """Whether the noise seed is in the state of the process and nowhere else.

    The toolkit's mechanisms keep their seed in the state. A user's own mechanism is
    built a second time with another seed, to see the difference.

    Args:
      setup: the setup of a run with user-level privacy.
      process: the process that was built with `PUBLIC_SEED`.
    """
    plan = setup.user_level
    if plan is None or privacy.MECHANISMS.origin(plan.mechanism.NAME) is None:
        return True
    other = building.process(setup, noise_seed=_OTHER_SEED)
    digests = [runtime.computation_digests(each) for each in (process, other)]
    for each in digests:
        each.pop("initial_state")
    if digests[0] != digests[1]:
        return False
    states = [runtime.in_process(each).initialize() for each in (process, other)]
    public, second = (_words(seed) for seed in (PUBLIC_SEED, _OTHER_SEED))
    if not keyed.holds(states[0], public):
        return False
    moved = keyed.replaced(states[1], second, public)
    pairs = zip(_leaves(states[0]), _leaves(moved))
    return all(np.array_equal(ours, theirs) for ours, theirs in pairs)


def check_recharge(setup: Setup, seed_in_state: bool) -> None:
    """Refuses new noise for a mechanism whose noise the toolkit cannot replace.

    Raises:
      SettingError: the mechanism does not keep its seed in the state alone.
    """
    plan = setup.user_level
    if plan is not None and not seed_in_state:
        raise SettingError(
            f"--recharge: --mechanism={plan.mechanism.NAME} does not keep its noise "
            "seed (an int64 tensor of two numbers) only in the state, so a run cannot "
            "change to new noise; choose another --output_dir"
        )


def engine(
    setup: Setup,
    key: int,
    folder: RunFolder,
    public: runtime.Engine,
    seed_in_state: bool,
    opened: contextlib.ExitStack,
) -> runtime.Engine:
    """Returns the engine of a run; the key of the last attempt gives the noise.

    Args:
      setup: the setup of the run.
      key: the key of the noise.
      folder: the folder of the run, which has accepted the start.
      public: the engine of the process that was built with `PUBLIC_SEED`.
      seed_in_state: the result of `in_state`.
      opened: the exit stack that closes an engine made here.
    """
    if setup.user_level is None:
        return public
    if seed_in_state:
        return runtime.KeyedEngine(public, _words(PUBLIC_SEED), _words(key))
    if setup.facts is not None:
        raise SettingError(
            f"--mechanism={setup.user_level.mechanism.NAME}: does not keep its noise "
            "seed only in the state, so the sites would build a process other than the "
            "coordinator's; leave it out with --runtime=federation"
        )
    process = building.process(setup, noise_seed=key)
    return opened.enter_context(
        engines.build(setup.experiment.runtime, process, folder, setup.task.train)
    )


def _words(seed: int) -> np.ndarray:
    return np.asarray(seed_tensor(seed))


def _leaves(state: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for _, leaf in nest.flatten(state)]
