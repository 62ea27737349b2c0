"""Imports public names when they are first used.

`import tfl_research` and the checks of settings do not import TensorFlow. Its import
takes seconds, and a mistyped setting should be refused at once.
"""

from __future__ import annotations

import ast
import importlib
import pathlib
from collections.abc import Callable
from typing import Any


def attach(
    package: str, file: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Returns `__getattr__`, `__dir__` and `__all__` of a package with lazy names.

    The names are listed once, in the package's `__init__.py`, where type checkers
    read them too:

        if TYPE_CHECKING:
            from tfl_research.storage.run_folder import RunFolder as RunFolder
        else:
            __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)

    The `else` hides `__getattr__` from type checkers, which would accept every name.
    Names that the file defines or imports outside of that block are in `__all__` too,
    if they do not begin with an underscore.

    Args:
      package: the package's `__name__`.
      file: the package's `__file__`.

    Raises:
      ValueError: the file has no block `if TYPE_CHECKING`.
    """
    tree = ast.parse(pathlib.Path(file).read_text(encoding="utf-8"))
    modules: dict[str, tuple[str, str]] = {}
    eager: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for imported in node.body:
                if isinstance(imported, ast.ImportFrom) and imported.module:
                    for alias in imported.names:
                        name = alias.asname or alias.name
                        modules[name] = imported.module, alias.name
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            package
        ):
            eager += [alias.asname or alias.name for alias in node.names]
    if not modules:
        raise ValueError(f"{file} lists no names under `if TYPE_CHECKING`")

    def getattribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, original = modules[name]
        if module == package:
            return importlib.import_module(f"{package}.{original}")
        return getattr(importlib.import_module(module), original)

    public = sorted({*modules, *(n for n in eager if not n.startswith("_"))})
    return getattribute, lambda: public, public
