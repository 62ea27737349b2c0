"""Turns an experiment into flat settings by name, and back."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

from tfl_research import tasks
from tfl_research.aggregators import AGGREGATORS
from tfl_research.algorithms import ALGORITHMS
from tfl_research.errors import SettingError, shortened
from tfl_research.experiment.configs import (
    Audit,
    Cohorts,
    RecordLevelPrivacy,
    TaskChoice,
    UserLevelPrivacy,
)
from tfl_research.models.optimizers import ClientOptimizer, ServerOptimizer
from tfl_research.privacy import MECHANISMS
from tfl_research.registry import SettingsRegistry
from tfl_research.sampling import OWN_SAMPLERS
from tfl_research.settings import NamedSettings, Settings, declared
from tfl_research.tasks import Task

if TYPE_CHECKING:
    from tfl_research.experiment.description import Described, Description

# Settings that say which optional parts an experiment has.
PRIVACY_UNIT, AUDITED, PERSONAL = "privacy_unit", "audit", "personal_evaluation"
PLUGINS = "plugins"
_UNITS: dict[Any, Optional[type[Settings]]] = {
    None: None,
    "client": UserLevelPrivacy,
    "record": RecordLevelPrivacy,
}
_UNIT_NAMES = ("client", "record")
_CHOICES: tuple[SettingsRegistry[Any], ...] = (
    ALGORITHMS,
    AGGREGATORS,
    MECHANISMS,
    OWN_SAMPLERS,
)
_OPTIMIZERS: tuple[tuple[str, type[Settings]], ...] = (
    ("client_optimizer", ClientOptimizer),
    ("server_optimizer", ServerOptimizer),
)


def flat(experiment: Description) -> dict[str, Any]:
    """Returns every setting by its name, as the run's folder records the settings."""
    algorithm, aggregator = experiment.chosen_algorithm, experiment.aggregator
    privacy = experiment.privacy
    values: dict[str, Any] = {
        **_task_settings(experiment.task, experiment.training.seed),
        ALGORITHMS.setting: algorithm.NAME,
        **algorithm.flat(),
        **_optimizers(experiment),
        PRIVACY_UNIT: _unit_of(privacy),
        **({} if privacy is None else privacy.flat()),
    }
    if isinstance(aggregator, NamedSettings):
        values.update({AGGREGATORS.setting: aggregator.NAME, **aggregator.flat()})
    else:
        kind = type(aggregator)
        values[AGGREGATORS.setting] = f"{kind.__module__}.{kind.__qualname__}"
    resolved: dict[str, Settings] = {
        "cohorts": experiment.resolved_cohorts,
        "weighting": experiment.resolved_weighting,
    }
    for name in experiment.PLAIN:
        part: Settings = resolved.get(name, getattr(experiment, name))
        values.update(part.flat())
    values[AUDITED] = experiment.audit is not None
    if experiment.audit is not None:
        values.update(experiment.audit.flat())
    values[PERSONAL] = experiment.personal_evaluation
    values[PLUGINS] = _plugins(experiment)
    return values


def _optimizers(experiment: Description) -> dict[str, Any]:
    """Returns the settings of the optimizers, None where an own algorithm has its own.

    The toolkit's algorithms keep the settings, so that runs of earlier versions resume.
    """
    algorithm, client = experiment.chosen_algorithm, experiment.clients
    values = {**client.flat(), **experiment.server.flat()}
    name = algorithm.NAME
    if name not in ALGORITHMS or ALGORITHMS.origin(name) is None:
        return values
    if algorithm.OWN_CLIENT_STEP:
        unused = [client.PREFIX + field for field in client.of_steps()]
        values.update(dict.fromkeys(unused))
    if algorithm.OWN_SERVER_STEP:
        values.update(dict.fromkeys(experiment.server.flat()))
    return values


def _plugins(experiment: Description) -> list[str]:
    """Returns the modules that registered the experiment's parts."""
    origins = {choices.origin(part.NAME) for choices, part in _registered(experiment)}
    if isinstance(experiment.task, TaskChoice):
        origins.add(tasks.origin(str(experiment.task.task)))
    return sorted(origin for origin in origins if origin is not None)


def _registered(
    experiment: Description,
) -> list[tuple[SettingsRegistry[Any], NamedSettings]]:
    """Returns the registered parts of an experiment, each with its registry."""
    parts: list[tuple[SettingsRegistry[Any], Any]] = [
        (ALGORITHMS, experiment.algorithm),
        (AGGREGATORS, experiment.aggregator),
        (OWN_SAMPLERS, experiment.cohorts.own),
    ]
    if isinstance(experiment.privacy, UserLevelPrivacy):
        parts.append((MECHANISMS, experiment.privacy.mechanism))
    return [
        (choices, part)
        for choices, part in parts
        if isinstance(part, NamedSettings) and part.NAME in choices
    ]


def own_parts(experiment: Description) -> dict[str, str]:
    """Returns the modules of a user's own parts, for `errors.naming_own_parts`."""
    found = {
        f"--{choices.setting}={part.NAME}": type(part).__module__
        for choices, part in _registered(experiment)
        if choices.origin(part.NAME) is not None
    }
    factory = _own_factory(experiment)
    if factory is not None:
        found[f"{AGGREGATORS.setting}={factory.__name__}"] = factory.__module__
    return found


def _own_factory(experiment: Description) -> Optional[type]:
    """Returns the class of a user's own TFF aggregation factory, or None."""
    kind = type(experiment.aggregator)
    is_named = isinstance(experiment.aggregator, NamedSettings)
    if is_named or kind.__module__.startswith("tensorflow_federated."):
        return None
    return kind


def own_server_parts(experiment: Description) -> str:
    """Writes a user's own aggregator and algorithm in words; "" without such parts."""
    found = []
    for choices, part in _registered(experiment):
        if choices in (ALGORITHMS, AGGREGATORS) and choices.origin(part.NAME):
            found.append(f"the {choices.what} {part.NAME}")
    factory = _own_factory(experiment)
    if factory is not None:
        found.append(f"the {AGGREGATORS.what} {factory.__name__}")
    return " or ".join(found)


def from_flat(kind: type[Described], values: Mapping[str, Any], name: str) -> Described:
    """Makes the experiment that flat settings describe, as on a command line."""
    known = _fixed_names(kind)
    for choices in _CHOICES:
        known |= {*choices.parameters()}
    for setting in values:
        if setting not in known:
            raise SettingError(f"--{shortened(setting)}: there is no such setting")
    given = {k: v for k, v in values.items() if v is not None and v != ()}
    unit = given.get(PRIVACY_UNIT)
    if unit not in (None, *_UNIT_NAMES):
        raise SettingError(f"--{PRIVACY_UNIT}={unit}: must be client, record or None")
    for switch in (AUDITED, PERSONAL):
        if not isinstance(given.get(switch, False), bool):
            raise SettingError(f"--{switch}={given[switch]}: must be True or False")
    _check_parts(given, unit)
    privacy: Any = _UNITS[unit]
    return kind(
        task=TaskChoice.from_flat(given),
        algorithm=ALGORITHMS.from_flat({ALGORITHMS.setting: "fed_avg", **given}),
        privacy=None if privacy is None else privacy.from_flat(given),
        aggregator=AGGREGATORS.from_flat({AGGREGATORS.setting: "mean", **given}),
        audit=Audit.from_flat(given) if given.get(AUDITED) else None,
        personal_evaluation=given.get(PERSONAL, False),
        client_optimizer=ClientOptimizer.from_flat(given),
        server_optimizer=ServerOptimizer.from_flat(given),
        name=name,
        **_plain(kind, given),
    )


def _fixed_names(kind: type[Description]) -> set[str]:
    """Returns the names of settings that are no parameters of registered choices."""
    known = {PRIVACY_UNIT, AUDITED, PERSONAL, PLUGINS} | _names(TaskChoice)
    for _, optimizer in _OPTIMIZERS:
        known |= _names(optimizer)
    for part in (*kind.PLAIN.values(), Audit, UserLevelPrivacy, RecordLevelPrivacy):
        known |= _names(part)
    return known | {choices.setting for choices in _CHOICES}


def check_parameters(kind: type[Description]) -> None:
    """Refuses a plugin's parameter that has the name of another setting.

    Flat settings and flags share one space of names, so a value would be given to both
    settings. Several choices of one registry may share a parameter.

    Raises:
      SettingError: two settings have the same name; the message names the parameter,
        its class and the other owner.
    """
    outside = [
        (choices, name)
        for choices in _CHOICES
        for name in choices.names()
        if choices.origin(name) is not None
    ]
    if not outside:
        return
    fixed = _fixed_names(kind)
    for choices, name in outside:
        chosen = choices.get(name)
        for parameter in _names(chosen):
            owners = ["a setting of every experiment"] if parameter in fixed else []
            for others in _CHOICES:
                if others is not choices:
                    owners += [
                        f"a parameter of --{others.setting}={owner}"
                        for owner in others.parameters().get(parameter, ())
                    ]
            if owners:
                raise SettingError(
                    f"--{choices.setting}={name}: its parameter {parameter} is called "
                    f"like {owners[0]}; rename the field of {chosen.__name__} in "
                    f"{choices.origin(name)}"
                )


def _check_parts(given: Mapping[str, Any], unit: Optional[str]) -> None:
    """Refuses settings of a part that the experiment does not have."""
    parts = [
        (
            unit == "client",
            f"{PRIVACY_UNIT}=client",
            _names(UserLevelPrivacy) | {MECHANISMS.setting, *MECHANISMS.parameters()},
        ),
        (unit == "record", f"{PRIVACY_UNIT}=record", _names(RecordLevelPrivacy)),
        (given.get(AUDITED, False), AUDITED, _names(Audit)),
    ]
    for is_there, needed, names in parts:
        for setting in given:
            if setting in names and not is_there:
                raise SettingError(
                    f"--{setting}={given[setting]}: goes with --{needed}; leave it out"
                )


def _plain(kind: type[Description], given: Mapping[str, Any]) -> dict[str, Any]:
    return {part: settings.from_flat(given) for part, settings in kind.PLAIN.items()}


def with_settings(experiment: Described, changes: Mapping[str, Any]) -> Described:
    """Returns the experiment with some settings changed, by their flat names."""
    left = dict(changes)
    parts: dict[str, Any] = {}

    def take(names: set[str]) -> dict[str, Any]:
        return {name: left.pop(name) for name in names & set(left)}

    kinds: list[tuple[str, type[Settings]]] = [
        *_OPTIMIZERS,
        *experiment.PLAIN.items(),
        ("audit", Audit),
        ("task", TaskChoice),
    ]
    for part, kind in kinds:
        own: Any = getattr(experiment, part)
        if isinstance(own, Cohorts):
            changed = take(_names(Cohorts) | {*OWN_SAMPLERS.parameters()})
            if changed:
                parts[part] = own.with_changes(changed)
        elif isinstance(own, kind):
            changed = take(_names(kind))
            if changed:
                parts[part] = kind.from_flat({**own.flat(), **changed})
    choosing: list[tuple[str, SettingsRegistry[Any]]] = [
        ("algorithm", ALGORITHMS),
        ("aggregator", AGGREGATORS),
    ]
    for part, choices in choosing:
        changed = take({choices.setting, *choices.parameters()})
        if changed:
            parts[part] = _chosen(choices, getattr(experiment, part), changed)
    if experiment.privacy is not None:
        changed = take(_names(type(experiment.privacy)) | _mechanism_names(experiment))
        if changed:
            parts["privacy"] = _private(experiment.privacy, changed)
    parts.update(take({PERSONAL}))
    for name in left:
        raise _no_such_setting(experiment, name)
    return dataclasses.replace(experiment, **parts)


def _no_such_setting(experiment: Description, name: str) -> SettingError:
    return SettingError(
        f"--{shortened(name)}: no part of this experiment has such a setting; "
        f"{_instead(experiment, name)}"
    )


def _instead(experiment: Description, name: str) -> str:
    """Writes advice about a name that no part of an experiment has."""
    parts = {field.name for field in dataclasses.fields(experiment)}
    if name in parts:
        return f"replace the part with dataclasses.replace(experiment, {name}=...)"
    absent: list[tuple[str, set[str]]] = [
        (
            "privacy=UserLevelPrivacy(...)",
            _names(UserLevelPrivacy) | {MECHANISMS.setting, *MECHANISMS.parameters()},
        ),
        ("privacy=RecordLevelPrivacy(...)", _names(RecordLevelPrivacy)),
        ("audit=Audit(...)", _names(Audit)),
        ("task=TaskChoice(...)", _names(TaskChoice)),
    ]
    for part, names in absent:
        if name in names:
            return f"it goes with {part}, which this experiment does not have"
    own = set(flat(experiment)) - parts - {PRIVACY_UNIT, PLUGINS}
    others = {setting for choices in _CHOICES for setting in choices.parameters()}
    for known in (own, others):
        alike = _alike(name, sorted(known))
        if alike:
            return f"did you mean {' or '.join(f'--{setting}' for setting in alike)}?"
    return "experiment.flat() lists the settings of this experiment"


def _alike(name: str, known: list[str]) -> list[str]:
    """Finds known names that the user probably meant."""
    whole = "learning_rate".join(re.split(r"(?<![a-z])lr(?![a-z])", name))
    ending = [setting for setting in known if f"_{setting}".endswith(f"_{whole}")]
    return ending or difflib.get_close_matches(name, known, n=2, cutoff=0.7)


def _private(own: Any, changes: Mapping[str, Any]) -> Any:
    if isinstance(own, RecordLevelPrivacy):
        return RecordLevelPrivacy.from_flat({**own.flat(), **changes})
    names = {MECHANISMS.setting, *MECHANISMS.parameters()}
    mechanism = {k: v for k, v in changes.items() if k in names}
    rest = {k: v for k, v in changes.items() if k not in names}
    if mechanism:
        rest["mechanism"] = _chosen(MECHANISMS, own.mechanism, mechanism)
    return dataclasses.replace(own, **rest)


def _chosen(
    choices: SettingsRegistry[Any], own: Any, changes: Mapping[str, Any]
) -> Any:
    """Returns a choice with changed parameters; a new choice has default parameters."""
    name = changes.get(choices.setting)
    if isinstance(own, NamedSettings) and name in (None, own.NAME):
        return choices.from_flat({choices.setting: own.NAME, **own.flat(), **changes})
    if name is None:
        raise SettingError(
            f"--{next(iter(changes))}: no part of this experiment has such a setting; "
            f"its {choices.what} is an object of your own; give "
            f"--{choices.setting}=NAME too"
        )
    return choices.from_flat({choices.setting: name, **changes})


def _mechanism_names(experiment: Description) -> set[str]:
    if isinstance(experiment.privacy, UserLevelPrivacy):
        return {MECHANISMS.setting, *MECHANISMS.parameters()}
    return set()


def _names(kind: type[Settings]) -> set[str]:
    return {kind.PREFIX + field.name for field in declared(kind)}


def _unit_of(privacy: Any) -> Optional[str]:
    return next(
        unit for unit, kind in _UNITS.items() if isinstance(privacy, kind or type(None))
    )


def _task_settings(task: Any, seed: int) -> dict[str, Any]:
    """Returns the task's settings, or only the name of a user's own task."""
    if isinstance(task, TaskChoice):
        return task.flat()
    if not isinstance(task, Task):
        raise TypeError(f"expected a task, got {task!r}")
    recipe = task.recipe
    if recipe is None:
        return {"task": task.name}
    choice = TaskChoice.of(recipe.name, recipe.options)
    values = choice.flat()
    if recipe.seed != seed:
        values["task_seed"] = recipe.seed
    return values
