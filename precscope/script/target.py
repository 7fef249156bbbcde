"""Script: which program is run, and the module ``__main__`` that it becomes."""

from __future__ import annotations

import io
import os
import runpy
import sys
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from precscope.workload.source import missing_names


@dataclass(frozen=True, slots=True)
class Script:
    """A training program as somebody types it after ``python``.

    Attributes:
        target: path of a file, or the dotted name of a module.
        arguments: its own arguments.
        is_module: whether ``target`` is a module, as in ``python -m target``.
    """

    target: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False

    @property
    def name(self) -> str:
        """A short name for titles and folders."""
        return self.target.rpartition(".")[2] if self.is_module else Path(self.target).stem


def is_script(path: Path) -> bool:
    """Whether the file is a training script: it defines at most one name of a model file.

    With two of ``model``, ``batches`` and ``loss`` it is a model file that lacks the third.

    Raises:
        WorkloadError: the file cannot be read or is not valid Python.
    """
    return len(missing_names(path)) > 1


def run_as_main(script: Script) -> None:
    """Run the script as ``python script.py`` or ``python -m module`` would.

    ``sys.argv``, ``sys.path[0]`` and the module ``__main__`` are those of a plain run. A file's
    module stays ``__main__`` until the interpreter ends, for what threads, exit handlers and
    pickle look up there; ``runpy.run_path`` would take it away, and overwrite ``sys.argv[0]``.
    """
    sys.argv[:] = [script.target, *script.arguments]
    if script.is_module:
        _put_first(os.getcwd())  # noqa: PTH109
        runpy.run_module(script.target, run_name="__main__", alter_sys=True)
    elif Path(script.target).is_dir():
        runpy.run_path(script.target, run_name="__main__")
    else:
        _put_first(str(Path(script.target).resolve().parent))
        _run_file(Path(script.target).absolute())


def folder_of(script: Script) -> Path:
    """The folder that the script's own imports are searched in first."""
    return Path.cwd() if script.is_module else Path(script.target).resolve().parent


def _put_first(folder: str) -> None:
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, folder)


def _run_file(path: Path) -> None:
    with io.open_code(str(path)) as source:
        code = compile(source.read(), str(path), "exec", dont_inherit=True)
    module = ModuleType("__main__")
    names = {"__file__": str(path), "__cached__": None, "__builtins__": __builtins__}
    vars(module).update(names, __loader__=SourceFileLoader("__main__", str(path)))
    sys.modules["__main__"] = module
    exec(code, vars(module))
