"""hparams.json: what a run was asked to do, and whether another run is the same."""

from __future__ import annotations

import json
import math
import numbers
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from tfl_research.errors import UserError

# Why a run ended, in words.
STOP_REASONS = {
    "rounds": "all planned rounds are done",
    "budget": "the next round would exceed the privacy budget",
    "early_stopping": "the selection metric no longer improves",
    "diverged": "the aggregated model was no longer finite",
}

# Hyperparameters that may change between the starts of one run: how long it
# goes on, what it prints and how often it evaluates. Any other changes what is
# computed or what it means, and so makes another experiment.
MAY_CHANGE = frozenset(
    {
        "budget_epsilon",
        "checkpoint_every",
        "checkpoint_seconds",
        "early_stopping_patience",
        "evaluate_every",
        "keep_checkpoints",
        "output_dir",
        "personal_evaluation",
        "print_every",
        "progress_bar",
        "record_budget_epsilon",
        "report",
        "resume",
        "rounds",
        "tensorboard",
        "workers",
        # Flags of absl itself.
        "alsologtostderr",
        "flagfile",
        "log_dir",
        "logger_levels",
        "logtostderr",
        "only_check_args",
        "pdb",
        "pdb_post_mortem",
        "profile_file",
        "run_with_pdb",
        "run_with_profiling",
        "showprefixforinfo",
        "stderrthreshold",
        "undefok",
        "use_cprofile_for_profiling",
        "v",
        "verbosity",
    }
)
# Never recorded.
SECRETS = frozenset({"run_seed"})

_FIELDS = {
    "experiment": str,
    "hparams": dict,
    "versions": dict,
    "begun_with": dict,
    "run_seed": str,
}
_UNSET = "not set"
_SHOWN = 3


def plain(name: str, value: Any) -> Any:
    """`value` as strict JSON has it.

    Raises:
      ValueError: a value that is neither a number, a string, a path, None nor a
        list or mapping of these.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(k): plain(f"{name}.{k}", v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(name, v) for v in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        # Strict JSON has no infinity or NaN.
        return number if math.isfinite(number) else str(number)
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return plain(name, value.item())
    raise ValueError(
        f"hyperparameter {name} is a {type(value).__name__}; expected a number, "
        "string, path, None, or a list or mapping of these"
    )


def plain_hparams(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """All hyperparameters as strict JSON, without secrets."""
    return {k: plain(k, v) for k, v in hparams.items() if k not in SECRETS}


def encode(record: Mapping[str, Any]) -> bytes:
    """The record as the content of hparams.json."""
    return (json.dumps(record, indent=2, sort_keys=True) + "\n").encode()


def read(path: pathlib.Path) -> dict[str, Any]:
    """The record in `path`.

    Raises:
      UserError: `path` is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("expected a JSON object")
        for name, kind in _FIELDS.items():
            if not isinstance(record.get(name), kind):
                raise ValueError(f"{name!r} is missing")
    except ValueError as error:
        raise UserError(
            f"{path} is not a run's record ({error}); restore it or choose another "
            "--output_dir"
        ) from error
    return record


def differences(
    held: Mapping[str, Any], asked: Mapping[str, Any], may_change: Collection[str]
) -> list[str]:
    """In words, what makes the two records different experiments; first asked."""
    found = []
    if held["experiment"] != asked["experiment"]:
        found.append(
            f"experiment is {held['experiment']} there and {asked['experiment']} here"
        )
    for name in dict.fromkeys([*asked["hparams"], *held["hparams"]]):
        there = held["hparams"].get(name, _UNSET)
        here = asked["hparams"].get(name, _UNSET)
        if there != here and name not in may_change:
            found.append(f"{name} is {there} there and {here} here")
    return found


def check_same(
    folder: pathlib.Path,
    held: Mapping[str, Any],
    asked: Mapping[str, Any],
    may_change: Collection[str],
) -> None:
    """Raises UserError, with the first differences, if these are two experiments."""
    found = differences(held, asked, may_change)
    if found:
        more = len(found) - _SHOWN
        raise UserError(
            f"{folder} holds another experiment: {'; '.join(found[:_SHOWN])}"
            f"{f'; and {more} more' if more > 0 else ''}; choose another --output_dir"
        )
