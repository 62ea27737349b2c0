"""Reads and writes hparams.json, a run's settings, and compares two starts."""

from __future__ import annotations

import hashlib
import json
import math
import numbers
import os
import pathlib
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tfl_research.errors import UserError
from tfl_research.storage.files import json_file

# The format of hparams.json. Format 1 has no "format" and no "privacy_plan"; format 2
# has `withhold_train_metrics`, and no settings of what a private run releases. Runs of
# both can be read, but not resumed.
FORMAT = 3

# Reasons for the end of a run, in words.
STOP_REASONS = {
    "rounds": "all planned rounds are done",
    "budget": "the next round would exceed the privacy budget",
    "early_stopping": "the selection metric no longer improves",
    "callback": "a callback stopped the run",
    "diverged": "the aggregated model was no longer finite",
}

# Hyperparameters that may change between the starts of a run: its length, its output
# and its evaluations. Any other hyperparameter changes the computation or its meaning,
# and so makes another experiment.
MAY_CHANGE = frozenset(
    {
        "budget_epsilon",
        "checkpoint_every",
        "checkpoint_seconds",
        "early_stopping_patience",
        "evaluate_every",
        "export",
        "keep_checkpoints",
        "open_worker_port",
        "output_dir",
        "personal_evaluation",
        "print_every",
        "progress_bar",
        "record_budget_epsilon",
        "report",
        "resume",
        "rounds",
        "tensorboard",
        "worker_cores",
        "worker_data",
        "worker_timeout",
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
# SHA-256 of the rest of the record, as JSON with sorted keys and without spaces.
_DIGEST = "digest"
_UNSET = "not set"
# Explanations of settings that users do not give by name, for messages.
_MEANING = {
    "data_sha256": " (the digest of all clients' examples)",
    "cohorts_sha256": " (the digest of the cohorts that your sampler draws first)",
}
_SHOWN = 3


def plain(name: str, value: Any) -> Any:
    """Converts `value` to strict JSON values; infinities and NaN become strings.

    Raises:
      ValueError: a value is neither a number, a string, a path, None nor a list or
        mapping of these.
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
    """Converts all hyperparameters to strict JSON, without secrets."""
    return {k: plain(k, v) for k, v in hparams.items() if k not in SECRETS}


def encode(record: Mapping[str, Any]) -> bytes:
    """Returns the content of hparams.json for a record, with its digest."""
    sealed = {**record, _DIGEST: _digest(record)}
    return (json.dumps(sealed, indent=2, sort_keys=True) + "\n").encode()


def _digest(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read(path: pathlib.Path) -> dict[str, Any]:
    """Reads the record in `path`; warns if the file was edited.

    Raises:
      UserError: `path` is damaged.
    """
    try:
        record = json_file.read(path)
        if not isinstance(record, dict):
            raise ValueError("expected a JSON object")
        for name, kind in _FIELDS.items():
            if not isinstance(record.get(name), kind):
                raise ValueError(f"{name!r} is missing")
        if not isinstance(record["begun_with"].get("versions"), dict):
            raise ValueError("'begun_with' has no 'versions'")
    except (ValueError, OSError) as error:
        raise UserError(
            f"{path} is not a run's record ({error}); restore it or choose another "
            "--output_dir"
        ) from error
    # Records of earlier versions have no seal.
    digest = record.pop(_DIGEST, None)
    if digest is not None and digest != _digest(record):
        warnings.warn(
            f"{path}: a value was changed after the run wrote the file", stacklevel=4
        )
    return record


def format_of(record: Mapping[str, Any]) -> int:
    """Returns the format of a record; 1 for records without "format"."""
    version = record.get("format", 1)
    return version if isinstance(version, int) else 0


def check_format(folder: pathlib.Path, recorded: Mapping[str, Any]) -> None:
    """Raises UserError if this version cannot resume the run; names a way out."""
    version = format_of(recorded)
    if version == FORMAT:
        return
    begun_with = recorded["begun_with"]
    revision = begun_with.get("git_revision") or recorded.get("git_revision")
    by = f"git revision {revision}" if revision else "the version that began it"
    raise UserError(
        f"{folder} has hparams.json in format {version}, but this version resumes "
        f"only runs of format {FORMAT}; finish the run with {by}, or choose another "
        "--output_dir"
    )


def plan_differences(
    recorded: Any,
    requested: Any,
    words: str = "{name} was {recorded}, is now {requested}",
) -> list[str]:
    """Describes the differences between two privacy plans.

    Args:
      recorded, requested: JSON values by name, which can be nested; None for no plan.
      words: the phrase of a difference, with `{name}`, `{recorded}`, `{requested}`.

    Returns:
      A phrase for each value that differs; dots join the names of nested values.
    """
    if recorded is None and requested is None:
        return []
    if recorded is None:
        return [f"the run had no privacy plan, is now given {_short(requested)}"]
    if requested is None:
        return [f"the run had a privacy plan {_short(recorded)}, is now given none"]
    old, new = dict(_leaves("", recorded)), dict(_leaves("", requested))
    return [
        words.format(name=name, recorded=_shown(old, name), requested=_shown(new, name))
        for name in dict.fromkeys([*new, *old])
        if name not in old or name not in new or old[name] != new[name]
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
    # The text has all digits, but 1.0 is written as 1.
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _short(plan: Mapping[str, Any]) -> str:
    values = dict(_leaves("", plan))
    return "(" + ", ".join(f"{n}={_shown(values, n)}" for n in values) + ")"


def differences(
    recorded: Mapping[str, Any],
    requested: Mapping[str, Any],
    may_change: Collection[str],
) -> list[str]:
    """Describes the differences that make two records different experiments.

    The differences have the order of the requested hyperparameters.
    """
    phrases = []
    if recorded["experiment"] != requested["experiment"]:
        phrases.append(
            f"experiment is {recorded['experiment']} there and "
            f"{requested['experiment']} here"
        )
    for name in dict.fromkeys([*requested["hparams"], *recorded["hparams"]]):
        old = recorded["hparams"].get(name, _UNSET)
        new = requested["hparams"].get(name, _UNSET)
        if old != new and name not in may_change:
            phrases.append(
                f"{name}{_MEANING.get(name, '')} is {old} there and {new} here"
            )
    return phrases


def check_same_experiment(
    folder: pathlib.Path,
    recorded: Mapping[str, Any],
    requested: Mapping[str, Any],
    may_change: Collection[str],
) -> None:
    """Raises UserError, with the first differences, if the experiments differ."""
    settings = differences(recorded, requested, may_change)
    plans = plan_differences(
        recorded.get("privacy_plan"), requested.get("privacy_plan")
    )
    parts = []
    if settings:
        parts.append(f"holds another experiment: {_first_few(settings)}")
    if plans:
        parts.append(f"was begun with another privacy plan: {_first_few(plans)}")
    if parts:
        raise UserError(
            f"{folder} {'; it '.join(parts)}; give the settings that the run was "
            "begun with, or choose another --output_dir"
        )


def _first_few(phrases: Sequence[str]) -> str:
    more = len(phrases) - _SHOWN
    return "; ".join(phrases[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
