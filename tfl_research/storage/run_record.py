"""hparams.json: what a run was asked to do, and whether another run is the same."""

from __future__ import annotations

import json
import math
import numbers
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tfl_research.errors import UserError

# The version of hparams.json that is written. Version 1 had no "format" and no
# "privacy_plan"; its runs can be read, but not resumed.
FORMAT = 2

# Why a run ended, in words.
STOP_REASONS = {
    "rounds": "all planned rounds are done",
    "budget": "the next round would exceed the privacy budget",
    "early_stopping": "the selection metric no longer improves",
    "callback": "a callback stopped the run",
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
# What a setting that nobody gave by name is, for messages.
_MEANING = {"data_sha256": " (the digest of all clients' examples)"}
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


def format_of(record: Mapping[str, Any]) -> int:
    """The version of a record; 1 for records that name none."""
    version = record.get("format", 1)
    return version if isinstance(version, int) else 0


def check_format(folder: pathlib.Path, held: Mapping[str, Any]) -> None:
    """Raises UserError, with what to do, for a run that cannot be resumed."""
    version = format_of(held)
    if version == FORMAT:
        return
    revision = held["begun_with"].get("git_revision") or held.get("git_revision")
    by = f"git revision {revision}" if revision else "the version that began it"
    raise UserError(
        f"{folder} has hparams.json in format {version}, and this version resumes runs "
        f"of format {FORMAT} only: finish the run with {by}, or choose another "
        "--output_dir"
    )


def plan_differences(
    held: Any,
    asked: Any,
    words: str = "{name} was {held}, is now {asked}",
) -> list[str]:
    """In words, what differs between two privacy plans, as JSON values.

    Args:
      held, asked: mappings by name, which can hold mappings; None for no plan.
      words: how a difference is said, with `{name}`, `{held}` and `{asked}`.

    Returns:
      A phrase for each value that differs, names of nested values joined by dots.
    """
    if held is None and asked is None:
        return []
    if held is None:
        return [f"the run had no privacy plan, is now given {_short(asked)}"]
    if asked is None:
        return [f"the run had a privacy plan {_short(held)}, is now given none"]
    there, here = dict(_leaves("", held)), dict(_leaves("", asked))
    return [
        words.format(name=name, held=_shown(there, name), asked=_shown(here, name))
        for name in dict.fromkeys([*here, *there])
        if name not in there or name not in here or there[name] != here[name]
    ]


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and (value or not name):
        for key, member in value.items():
            yield from _leaves(f"{name}.{key}" if name else str(key), member)
    else:
        yield name, value


def _shown(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return _UNSET
    value = values[name]
    # Every digit that differs is shown, and 1.0 as 1.
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _short(plan: Mapping[str, Any]) -> str:
    values = dict(_leaves("", plan))
    return "(" + ", ".join(f"{n}={_shown(values, n)}" for n in values) + ")"


def differences(
    held: Mapping[str, Any], asked: Mapping[str, Any], may_change: Collection[str]
) -> list[str]:
    """In words, what makes the two records different experiments; first asked."""
    phrases = []
    if held["experiment"] != asked["experiment"]:
        phrases.append(
            f"experiment is {held['experiment']} there and {asked['experiment']} here"
        )
    for name in dict.fromkeys([*asked["hparams"], *held["hparams"]]):
        there = held["hparams"].get(name, _UNSET)
        here = asked["hparams"].get(name, _UNSET)
        if there != here and name not in may_change:
            what = _MEANING.get(name, "")
            phrases.append(f"{name}{what} is {there} there and {here} here")
    return phrases


def check_same(
    folder: pathlib.Path,
    held: Mapping[str, Any],
    asked: Mapping[str, Any],
    may_change: Collection[str],
) -> None:
    """Raises UserError, with the first differences, if these are two experiments."""
    settings = differences(held, asked, may_change)
    plans = plan_differences(held.get("privacy_plan"), asked.get("privacy_plan"))
    parts = []
    if settings:
        parts.append(f"holds another experiment: {_first(settings)}")
    if plans:
        parts.append(f"was begun with another privacy plan: {_first(plans)}")
    if parts:
        raise UserError(
            f"{folder} {'; it '.join(parts)}; go on with the settings that it was "
            "begun with, or choose another --output_dir"
        )


def _first(phrases: Sequence[str]) -> str:
    more = len(phrases) - _SHOWN
    return "; ".join(phrases[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
