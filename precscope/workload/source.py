"""The model file as source: what it defines, and its execution as a module."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import sys
import warnings
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from precscope.errors import WorkloadError
from precscope.workload.blame import calling
from precscope.workload.names import defined

REQUIRED = {"model": "model()", "batches": "batches()", "loss": "loss(model, batch)"}
"""The names that make a file a model file, and how each is called."""

STEP = "step"
"""``step(model, batch, trainer)``, which may take the place of ``loss``."""

_serial = itertools.count()


def is_model_file(path: Path) -> bool:
    """Whether the file defines ``model``, ``batches`` and ``loss`` or ``step``. Runs nothing.

    A function, a class, a ``from`` import (``from x import *`` is followed into the user's own
    files) and ``loss = other_function`` define a name;
    ``model = Net()`` does not, since training scripts are full of such variables.

    Raises:
        WorkloadError: the file cannot be read or is not valid Python.
    """
    return not missing_names(path)


def missing_names(path: Path) -> list[str]:
    """Those of the three names that the file lacks, in the order of the contract."""
    found = defined(_parse(path), path)
    if STEP in found:
        found.add("loss")
    return [name for name in REQUIRED if name not in found]


def execute(path: Path) -> ModuleType:
    """Run the file as a module under a private name, registered in ``sys.modules``.

    Registered, because pickling, dataclasses and typing look the module up by name; private and
    unique, because ``__name__`` must not be ``"__main__"`` nor hide a module of the user's.

    Raises:
        WorkloadError: the code raised or exited. The module is then not registered.
    """
    name = f"_precscope_workload_{next(_serial)}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    if spec is None or spec.loader is None:  # never, as the loader is given
        raise WorkloadError(f"{path.name} cannot be loaded as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with calling(path, "importing it"):
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


class _Loader(SourceFileLoader):
    """Compiles afresh: no stale cache for a file just edited, no file left in the user's folder."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _parse(path: Path) -> ast.Module:
    source = _read(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are due when the file runs, not before
            tree = ast.parse(source, str(path))
            compile(tree, str(path), "exec")  # finds a return outside of a function
    except SyntaxError as error:
        where = f"{path.name}:{error.lineno}" if error.lineno else path.name
        raise WorkloadError(f"{where}: syntax error: {error.msg}") from error
    except ValueError as error:  # null bytes: a checkpoint given by mistake
        raise WorkloadError(f"{path.name} is not Python source: {error}") from error
    return tree


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise WorkloadError(f"{path} is a directory: name the model file inside it")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise WorkloadError(f"no such file: {path}") from error
    except OSError as error:
        raise WorkloadError(f"cannot read {path}: {error.strerror}") from error
