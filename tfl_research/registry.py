"""Registries of parts by name, to which users can add parts."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Generic, Optional, TypeVar, Union

from tfl_research.errors import SettingError, alternatives, quoted, shortened
from tfl_research.settings import NamedSettings, declared

Item = TypeVar("Item")
Chosen = TypeVar("Chosen", bound=NamedSettings)
_OWN = "tfl_research"
# The plugin that this thread is importing.
_LOADING: contextvars.ContextVar[Optional[str]] = contextvars.ContextVar(
    "the plugin that is being imported", default=None
)

_registries: weakref.WeakSet[Registry[Any]] = weakref.WeakSet()


def has_further_items() -> bool:
    """Whether any registry has an item that is not the toolkit's own."""
    return any(
        origin is not None
        for registry in _registries
        for origin in registry._origins.values()
    )


class Registry(Generic[Item]):
    """Maps names to items, in the order in which the items were added.

    An item may be given as "package.module:name". It is then imported when `get` first
    asks for it.

    Attributes:
      what: the word for an item in messages, such as "algorithm".

    Example:
      >>> losses = tfl.registry.Registry("loss", {"distance": "math:dist"})
      >>> losses.register("hinge", lambda margin: max(0.0, 1.0 - margin))
      >>> losses.names()
      ('distance', 'hinge')
      >>> losses.get("hinge")(0.25)
      0.75
      >>> losses.get("huber")
      Traceback (most recent call last):
          ...
      ValueError: unknown loss 'huber'; there are distance, hinge
    """

    def __init__(
        self, what: str, items: Optional[Mapping[str, Union[str, Item]]] = None
    ):
        self.what = what
        self._items: dict[str, Union[str, Item]] = dict(items or {})
        self._origins: dict[str, Optional[str]] = dict.fromkeys(self._items)
        _registries.add(self)

    def register(self, name: str, item: Union[str, Item]) -> None:
        """Adds an item.

        A class or function that a script or notebook defines replaces its former
        definition, so that the notebook's cell can be run again.

        Args:
          name: a new name.
          item: the item, or "package.module:name".

        Raises:
          ValueError: the name is no text or empty, the name is taken, or the item is a
            text that is not "package.module:name".

        Example:
          >>> losses = tfl.registry.Registry("loss")
          >>> losses.register("distance", "math:dist")
          >>> losses.get("distance")((0, 0), (3, 4))
          5.0
        """
        if not name or not isinstance(name, str):
            raise ValueError(f"the name of a {self.what} must be text, got {name!r}")
        if name in self._items and not _is_redefined(self._items[name], item):
            raise ValueError(
                f"a {self.what} named {name!r} is already registered; give this "
                f"{self.what} another name"
            )
        if isinstance(item, str) and item.count(":") != 1:
            raise ValueError(
                f"a {self.what} must be given as itself or as 'package.module:name', "
                f"got {item!r}"
            )
        self._items[name] = item
        self._origins[name] = _origin(item)

    def unregister(self, name: str) -> None:
        """Removes an item.

        Raises:
          ValueError: there is no item with this name.
        """
        self._check(name)
        del self._items[name]
        del self._origins[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def names(self) -> tuple[str, ...]:
        """Returns all names, in the order in which their items were added."""
        return tuple(self._items)

    def get(self, name: str) -> Item:
        """Returns the item with this name, and imports the item if necessary.

        Raises:
          ValueError: there is no item with this name; the message lists all names.
        """
        self._check(name)
        item = self._items[name]
        if isinstance(item, str):
            module, _, attribute = item.partition(":")
            loaded: Item = getattr(importlib.import_module(module), attribute)
            self._items[name] = item = loaded
        return item

    def items(self) -> list[tuple[str, Item]]:
        """Returns all names with their items, and imports the items."""
        return [(name, self.get(name)) for name in self._items]

    def origin(self, name: str) -> Optional[str]:
        """Returns the module that registered an item; None for the toolkit's items."""
        self._check(name)
        return self._origins[name]

    def _check(self, name: str) -> None:
        if name not in self._items:
            raise ValueError(
                f"unknown {self.what} {quoted(name)}; there are "
                f"{', '.join(self._items)}"
            )


def _is_redefined(old: Any, new: Any) -> bool:
    """Whether a notebook's cell that defines and registers an item was run again."""
    names = [
        (getattr(item, "__module__", None), getattr(item, "__qualname__", None))
        for item in (old, new)
    ]
    return names[0] == names[1] and names[0][0] == "__main__"


def _origin(item: Any) -> Optional[str]:
    module = item.partition(":")[0] if isinstance(item, str) else item.__module__
    # A plugin may be the first to import a module of the toolkit.
    if module.split(".")[0] == _OWN:
        return None
    return _LOADING.get() or module


def load_plugin(module: str) -> None:
    """Imports a module that registers a user's own algorithms, mechanisms and so on.

    Args:
      module: the module's name, such as "my_package.my_module". Python must be able to
        import it. On a command line, Python also looks in the current folder.

    Raises:
      SettingError: the module cannot be found, or its import fails.

    Example, with a module in the current folder:
      >>> import pathlib
      >>> _ = pathlib.Path("my_tasks.py").write_text('''
      ... from tfl_research import tasks
      ... tasks.register("wards", "my_wards:build")
      ... ''')
      >>> tfl.registry.load_plugin("my_tasks")
      >>> "wards" in tfl.tasks.names(), tfl.tasks.origin("wards")
      (True, 'my_tasks')
    """
    token = _LOADING.set(module)
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        # A script without a guard for __main__ may exit.
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise SettingError(
            f"--plugin={module}: cannot be imported ({why}); give a module that Python "
            "finds, as my_package.my_module"
        ) from error
    finally:
        _LOADING.reset(token)


@contextlib.contextmanager
def registered(
    registry: Registry[Item], name: str, item: Union[str, Item]
) -> Iterator[None]:
    """Registers an item while the block runs, as tests do.

    Example:
      >>> losses = tfl.registry.Registry("loss")
      >>> with tfl.registry.registered(losses, "distance", "math:dist"):
      ...     losses.names()
      ('distance',)
      >>> losses.names()
      ()
    """
    registry.register(name, item)
    try:
        yield
    finally:
        registry.unregister(name)


class SettingsRegistry(Registry[type[Chosen]]):
    """Maps names to classes of `NamedSettings`: choices with their parameters.

    Attributes:
      setting: the name of the setting that chooses a class, such as "algorithm".

    Example:
      >>> from tfl_research.algorithms import ALGORITHMS
      >>> ALGORITHMS.resolve("fed_prox")
      FedProx()
      >>> ALGORITHMS.from_flat({"algorithm": "ditto", "personal_strength": 2.0})
      Ditto(personal_strength=2.0)
    """

    def __init__(self, setting: str, what: Optional[str] = None):
        super().__init__(what or setting)
        self.setting = setting

    def add(self, chosen: type[Chosen]) -> type[Chosen]:
        """Registers a class by its NAME and returns it: a decorator.

        Raises:
          ValueError: the class has no NAME, or the name is taken.

        Example, with an aggregator that differs from its base class in a default:
          >>> import dataclasses
          >>> @tfl.aggregators.register
          ... @dataclasses.dataclass(frozen=True)
          ... class CarefulKrum(tfl.aggregators.Krum):
          ...     NAME = "careful_krum"
          ...     SUMMARY = "Krum against two hostile clients"
          ...     byzantine: int = tfl.settings.integer(2, "Hostile.", minimum=1)
          >>> experiment = tfl.Experiment("mnist", aggregator="careful_krum")
          >>> experiment.check()
          >>> experiment.aggregator
          CarefulKrum()
        """
        self.register(chosen.NAME, chosen)
        return chosen

    def resolve(self, value: Union[str, Chosen]) -> Chosen:
        """Returns settings as they are, or a name's class with its default parameters.

        Raises:
          SettingError: the name is unknown, a parameter has no default, or the class of
            the settings is not the class that is registered under its NAME.
        """
        if isinstance(value, str):
            return self.from_flat({self.setting: value})
        if isinstance(value, NamedSettings):
            self._check_registered(type(value))
        return value

    def from_flat(self, values: Mapping[str, Any]) -> Chosen:
        """Makes the choice that flat settings describe.

        Args:
          values: the choice's name under the key `setting`, and parameters by their
            names. A value of None or an empty list means "not given".

        Raises:
          SettingError: the name is unknown, a parameter belongs to another choice, or a
            parameter without default is missing.
        """
        name = values[self.setting]
        if name not in self:
            raise SettingError(
                f"--{self.setting}={shortened(name)}: must be one of "
                f"{', '.join(self.names())}"
            )
        chosen = self.get(name)
        own = {chosen.PREFIX + field.name for field in declared(chosen)}
        given = {k: v for k, v in values.items() if not _is_empty(v)}
        for parameter, owners in self.parameters().items():
            if parameter in given and parameter not in own:
                raise SettingError(
                    f"--{parameter}={_shown(given[parameter])}: goes with "
                    f"--{self.setting}={alternatives(owners)}, not with {name}; leave "
                    "it out"
                )
        return chosen.from_flat({k: v for k, v in given.items() if k in own})

    def _check_registered(self, chosen: type[NamedSettings]) -> None:
        name = chosen.NAME
        if name not in self:
            raise SettingError(
                f"--{self.setting}={name}: {chosen.__name__} is not registered, so "
                "nobody could read the run's record again; decorate the class with "
                "this registry's register"
            )
        if self.get(name) is not chosen:
            raise SettingError(
                f"--{self.setting}={name}: {chosen.__name__} is not the class that is "
                "registered under that name; register the class under a name of its own"
            )

    def parameters(self) -> dict[str, list[str]]:
        """Maps the name of each parameter to the names of the choices that have it."""
        found: dict[str, list[str]] = {}
        for name, chosen in self.items():
            for field in declared(chosen):
                found.setdefault(chosen.PREFIX + field.name, []).append(name)
        return found


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, (list, tuple)) and not value)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else shortened(value)
