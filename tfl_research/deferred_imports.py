"""Imports TensorFlow and TFF without the packages that they hardly ever use.

TensorFlow and TFF import all packages that any of their functions may need: JAX, Google
Vizier, scikit-learn, TensorFlow Probability, half of SciPy. These packages take a third
of the CPU seconds of the import, and a run uses none of them. A module of `SELDOM_USED`
is imported completely when one of its attributes is first used.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import ctypes
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import itertools
import os
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from typing import Any, Optional

_TFF = "tensorflow_federated.python"
# Only modules that other modules import as a whole can be deferred. An import such as
# `from module import name` loads the module at once.
SELDOM_USED = frozenset(
    {
        # tensorflow-privacy samples the discrete Gaussian with it.
        "tensorflow_probability",
        # Composition of ε and calibration of noise; both use half of SciPy.
        "dp_accounting.pld",
        "dp_accounting.rdp",
        "scipy.optimize",
        # Computations written in JAX.
        f"{_TFF}.core.environments.jax",
        # Google Vizier.
        f"{_TFF}.learning.programs",
        f"{_TFF}.simulation.baselines",
        f"{_TFF}.analytics",
        # Keras accepts DataFrames as inputs.
        "pandas",
        # TensorFlow Lite, which imports JAX. Each version of the API has a copy.
        "tensorflow._api.v2.lite",
        *(
            f"tensorflow.{root}compat.{'.compat.'.join(versions)}.lite"
            for root in ("", "_api.v2.")
            for depth in (1, 2)
            for versions in itertools.product(("v1", "v2"), repeat=depth)
        ),
    }
)
_PRIVACY = "tensorflow_privacy"
# tensorflow-privacy's own flag: if it is set, the package imports none of its modules.
_PRIVACY_FLAG = "skip_tf_privacy_import"

_replacing = threading.Lock()
_used: set[str] = set()
# Set if garbage collection shall ignore the objects that imports made.
_freezing = threading.Event()


# Attributes that the import system sets, and attributes that every object has.
_OF_STAND_INS = frozenset(
    ("__class__", "__file__", "__loader__", "__name__", "__package__", "__spec__")
)


class _Deferred(types.ModuleType):
    """Stands for a module that is imported when one of its attributes is first used.

    Changing, listing, copying or pickling the stand-in acts on the module.
    """

    def __getattribute__(self, name: str) -> Any:
        if name in ("__dict__", "__doc__"):
            return getattr(_loaded(self), name)
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(_loaded(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OF_STAND_INS:
            super().__setattr__(name, value)
        else:
            setattr(_loaded(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_loaded(self), name)

    def __reduce__(self) -> Any:
        return importlib.import_module, (self.__name__,)

    def __dir__(self) -> list[str]:
        return dir(_loaded(self))


def _loaded(stand_in: _Deferred) -> types.ModuleType:
    """Returns the module. Python's import system lets only one thread load it."""
    name = stand_in.__name__
    with _replacing:
        if sys.modules.get(name) is stand_in:
            _used.add(name)
            del sys.modules[name]
    try:
        importlib.import_module(name)
    except BaseException:
        with _replacing:
            sys.modules.setdefault(name, stand_in)
        raise
    return sys.modules[name]


class _OfAnother(importlib.abc.Loader):
    """A loader that replaces the module's own loader for one load."""

    def __init__(self, loader: Any) -> None:
        self._own = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return self._own.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._own
        self._load(module)

    def _load(self, module: Any) -> None:
        raise NotImplementedError


class _Later(_OfAnother):
    """Makes the stand-in of a module."""

    def _load(self, module: Any) -> None:
        # Without __path__, an import of a submodule loads the package first.
        vars(module).pop("__path__", None)
        module.__class__ = _Deferred


class _ByName(_OfAnother):
    """Loads tensorflow-privacy, and imports its names when they are first used."""

    def _load(self, module: Any) -> None:
        if hasattr(sys, _PRIVACY_FLAG):
            self._own.exec_module(module)
            return
        setattr(sys, _PRIVACY_FLAG, True)
        try:
            self._own.exec_module(module)
        finally:
            delattr(sys, _PRIVACY_FLAG)
        _attach_names(module, inspect.getsource(module))


def _attach_names(package: Any, source: str) -> None:
    """Gives a package the names that its source imports from the package's modules."""
    modules = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith(package.__name__)
        for alias in node.names
    }

    def getattribute(name: str) -> Any:
        if name == "__all__":
            return sorted(modules)
        if name not in modules:
            return _submodule(package, name)
        module, original = modules[name]
        try:
            value = importlib.import_module(f"{module}.{original}")
        except ModuleNotFoundError:
            value = getattr(importlib.import_module(str(module)), original)
        setattr(package, name, value)
        return value

    package.__getattr__ = getattribute
    package.__dir__ = lambda: sorted({*vars(package), *modules})


def _give_submodules(package: Any) -> None:
    """Makes a package import its modules when they are first used.

    Without the flag, the package's own imports would have set these attributes.
    """
    if hasattr(package, "__path__"):
        package.__getattr__ = lambda name: _submodule(package, name)


def _submodule(package: Any, name: str) -> Any:
    whole = f"{package.__name__}.{name}"
    if name.startswith("__") or importlib.util.find_spec(whole) is None:
        raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")
    module = importlib.import_module(whole)
    _give_submodules(module)
    return module


class _Finder(importlib.abc.MetaPathFinder):
    """Finds stand-ins for seldom used modules while TensorFlow and TFF are imported."""

    def find_spec(
        self,
        fullname: str,
        path: Optional[Sequence[str]],
        target: Optional[types.ModuleType] = None,
    ) -> Optional[importlib.machinery.ModuleSpec]:
        loader: type[_OfAnother]
        if fullname in SELDOM_USED and fullname not in _used:
            loader = _Later
        elif fullname == _PRIVACY:
            loader = _ByName
        else:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = loader(spec.loader)
        return spec


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Makes garbage collection ignore the objects that imports make.

    There are a million such objects, and they stay. Each collection would visit all.
    """
    # If TensorFlow is imported already, the program's own objects may become garbage.
    freezes = _freezing.is_set() and "tensorflow" not in sys.modules
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if freezes:
            gc.freeze()
        if enabled:
            gc.enable()


def freeze_imports() -> None:
    """Makes garbage collection ignore everything that `import_tff` imports.

    Only commands may call it. Python can ignore only all objects that exist. In a
    notebook, objects such as another library's model would never be collected.
    """
    _freezing.set()


@contextlib.contextmanager
def loading_libraries() -> Iterator[None]:
    """Loads TensorFlow's shared libraries in a thread while the block runs.

    Loading takes a fifth of the import of TensorFlow, and does not hold Python's lock.
    The block ends when the libraries are loaded. If they are not at the usual path, the
    import loads them as usual.
    """
    thread = None
    if "tensorflow" not in sys.modules:
        thread = threading.Thread(target=_load_libraries, daemon=True)
        thread.start()
    try:
        yield
    finally:
        if thread is not None:
            thread.join()


def _load_libraries() -> None:
    with contextlib.suppress(AttributeError, ImportError, OSError, ValueError):
        spec = importlib.util.find_spec("tensorflow")
        # A foreign function releases Python's lock, so that other threads go on.
        load = ctypes.CDLL(None).dlopen
        load.restype, load.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
        for place in (spec and spec.submodule_search_locations) or ():
            for name in ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2"):
                load(os.fsencode(os.path.join(place, name)), sys.getdlopenflags())


def import_tff() -> None:
    """Imports TensorFlow and TFF, and defers the modules of `SELDOM_USED`.

    A deferred module is loaded at its first use. Code that imports such a module later,
    or has imported it already, can use the whole module.
    """
    if "tensorflow_federated" in sys.modules:
        return
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        with _without_collection():
            compat: Any = importlib.import_module("tfl_research._tff_compat")
    finally:
        sys.meta_path.remove(finder)
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{_PRIVACY}."):
            _give_submodules(module)
    atexit.register(compat.end_workers)
