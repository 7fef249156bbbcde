"""Which functions a file defines at top level, read from its source: nothing is run."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of other people's code: no contract of ours is kept there."""


def defined(tree: ast.Module, path: Path) -> set[str]:
    """The names that a function, a class, an import or ``a = other_function`` defines.

    Args:
        tree: the source of the file.
        path: the file, from which ``from x import *`` is followed into what lies beside it and on
            ``sys.path``, but not into installed packages.
    """
    return _Names().of(tree, path)


class _Names:
    """Follows star imports, each file once."""

    def __init__(self) -> None:
        self._seen: set[Path] = set()

    def of(self, tree: ast.Module, path: Path) -> set[str]:
        self._seen.add(path.resolve())
        return set(self._defined(tree.body, path))

    def _defined(self, body: Sequence[ast.stmt], path: Path) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                yield from self._starred(node, path)
            elif isinstance(node, ast.ImportFrom):
                yield from (alias.asname or alias.name for alias in node.names)
            elif isinstance(node, ast.Assign) and _names_a_callable(node.value):
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))
            else:
                for inner in _blocks(node):
                    yield from self._defined(inner, path)

    def _starred(self, node: ast.ImportFrom, path: Path) -> Iterator[str]:
        source = _file_of(node, path)
        if source is None or source.resolve() in self._seen:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source.read_bytes())
        except (OSError, SyntaxError, ValueError):  # told when the import fails
            return
        public = _listed(tree)
        for name in self.of(tree, source):
            if name in public if public is not None else not name.startswith("_"):
                yield name


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    if isinstance(node, ast.If | ast.Try):
        yield from (node.body, node.orelse)
    if isinstance(node, ast.Try):
        yield from (*(handler.body for handler in node.handlers), node.finalbody)
    if isinstance(node, ast.With):
        yield node.body


def _names_a_callable(value: ast.expr) -> bool:
    return isinstance(value, ast.Name | ast.Attribute | ast.Lambda)


def _listed(tree: ast.Module) -> set[str] | None:
    """What ``__all__`` lists, None where it is not simply a list of names."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            try:
                return set(ast.literal_eval(node.value))
            except (ValueError, TypeError):
                return None
    return None


def _file_of(node: ast.ImportFrom, path: Path) -> Path | None:
    """The source of the module that is imported from, None if it has none that is followed."""
    folder = path.resolve().parent
    if node.level:
        folders = [str(folder.joinpath(*[".."] * (node.level - 1)))]
    else:
        folders = [str(folder), *(p for p in sys.path if not INSTALLED & set(Path(p).parts))]
    found: Path | None = None
    for part in (node.module or "__init__").split("."):
        spec = PathFinder.find_spec(part, folders)
        if spec is None:
            return None
        found = Path(spec.origin) if spec.has_location and spec.origin else None
        folders = list(spec.submodule_search_locations or ())
    return found if found is not None and found.suffix == ".py" else None
