"""A contract for import-linter that its release for Python 3.9 does not have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Optional, cast

import grimp
from importlinter import Contract, ContractCheck, fields, output
from importlinter.application import contract_utils


def circles(edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Finds the groups of nodes that reach each other.

    Tarjan's algorithm: the strongly connected components with more than one node.

    Args:
      edges: Maps each node to the nodes that it points to.

    Returns:
      The groups, each sorted, sorted by their first node.

    For example, `circles({"a": ["b"], "b": ["a"], "c": ["a"]})` is `[["a", "b"]]`.
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    groups = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        on_stack.add(node)
        for following in edges.get(node, ()):
            if following not in index:
                visit(following)
                low[node] = min(low[node], low[following])
            elif following in on_stack:
                low[node] = min(low[node], index[following])
        if low[node] == index[node]:
            start = stack.index(node)
            group = stack[start:]
            del stack[start:]
            on_stack.difference_update(group)
            if len(group) > 1:
                groups.append(sorted(group))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return sorted(groups)


class AcyclicContract(Contract):
    """Refuses circles among modules, and among the members of each package.

    A module or package counts as importing what its descendants import. So
    `a.x -> b.y` and `b.z -> a.w` are a circle of the packages `a` and `b`, although
    no module imports itself.

    Options:
      root: The package whose modules are checked.
      ignore_imports: Imports that do not count, "importer -> imported". (Optional.)
    """

    type_name = "acyclic"

    root = fields.StringField()
    ignore_imports = fields.SetField(
        subfield=fields.ImportExpressionField(), required=False
    )

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        """Looks for circles in the graph of imports.

        Args:
          graph: The imports; import-linter gives each contract its own copy.
          verbose: Not used.

        Returns:
          Whether there is no circle, and each circle's imports.
        """
        warnings = contract_utils.remove_ignored_imports(
            graph=graph,
            ignore_imports=self.ignore_imports,  # type: ignore[arg-type]
            unmatched_alerting=contract_utils.AlertLevel.ERROR,
        )
        root = cast(str, self.root)
        modules = {root} | graph.find_descendants(root)
        imports = [
            (importer, imported)
            for importer in sorted(modules)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if imported in modules
        ]
        # Among all modules, and then among the members of each package.
        broken = {tuple(group) for group in _groups(imports)}
        for package in modules:
            members = []
            for importer, imported in imports:
                first, second = _child(package, importer), _child(package, imported)
                if first is not None and second is not None:
                    members.append((first, second))
            broken.update(tuple(group) for group in _groups(members))
        circular = [
            [
                f"{importer} -> {imported}"
                for importer, imported in imports
                if _crosses(group, importer, imported)
            ]
            for group in sorted(broken)
        ]
        return ContractCheck(
            kept=not circular, warnings=warnings, metadata={"circles": circular}
        )

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Prints the imports of each circle."""
        for imports in check.metadata["circles"]:
            output.print_error("These imports form a circle:", bold=False)
            for line in imports:
                output.print_error(f"- {line}", bold=False)
            output.new_line()


def _groups(links: Iterable[tuple[str, str]]) -> list[list[str]]:
    edges: dict[str, list[str]] = {}
    for importer, imported in links:
        if importer != imported:
            edges.setdefault(importer, []).append(imported)
    return circles(edges)


def _child(package: str, module: str) -> Optional[str]:
    """The member of the package that is or holds the module, if any."""
    prefix = f"{package}."
    if not module.startswith(prefix):
        return None
    return prefix + module[len(prefix) :].split(".", 1)[0]


def _member(group: Iterable[str], module: str) -> Optional[str]:
    """The longest name of the group that is the module or a package around it."""
    holders = [
        name for name in group if module == name or module.startswith(f"{name}.")
    ]
    return max(holders, key=len) if holders else None


def _crosses(group: Iterable[str], importer: str, imported: str) -> bool:
    """Whether the import goes from one member of the group to another."""
    names = list(group)
    first, second = _member(names, importer), _member(names, imported)
    return first is not None and second is not None and first != second
