"""The cells that are finished, in one JSON file that is whole at every moment."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from paper_plan import Task, fingerprint

SCHEMA = 1


class State:
    """Finished cells; written after each of them.

    Args:
        path: of the JSON file; what it holds already is kept, if it is of the same size and of
            the same version of the examples.
        size: ``quick``, ``small`` or ``large``.
        environment: of this machine.
    """

    def __init__(self, path: Path, size: str, environment: dict[str, Any]) -> None:
        self.path = path
        self.values: dict[str, Any] = {
            "schema": SCHEMA,
            "size": size,
            "environment": environment,
            "examples": {},
            "cells": {},
            "peak_memory_bytes": 0,
            "wall_seconds": 0.0,
        }
        if path.exists():
            self._take_over(json.loads(path.read_text(encoding="utf-8")))

    @property
    def cells(self) -> dict[str, dict[str, Any]]:
        """By key of the task."""
        cells: dict[str, dict[str, Any]] = self.values["cells"]
        return cells

    def add(self, task: Task, cell: dict[str, Any]) -> None:
        """Keep a cell, on disk before this returns."""
        self.values["examples"].setdefault(task.domain, fingerprint(task.domain))
        self.cells[task.key] = cell
        self.save()

    def note(self, seconds: float, memory_bytes: int | None) -> None:
        """Time that has gone by, what all processes together hold; written with the next cell."""
        self.values["wall_seconds"] += seconds
        self.values["peak_memory_bytes"] = max(self.values["peak_memory_bytes"], memory_bytes or 0)

    def save(self) -> None:
        """Write all; a crash leaves the old file or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half_written = self.path.with_suffix(".json.part")
        half_written.write_text(json.dumps(self.values, indent=1) + "\n", encoding="utf-8")
        os.replace(half_written, self.path)  # noqa: PTH105 - atomic, and says so

    def _take_over(self, old: dict[str, Any]) -> None:
        if old.get("schema") != SCHEMA or old.get("size") != self.values["size"]:
            raise SystemExit(
                f"{self.path} holds runs of size {old.get('size')!r}: choose another --output"
            )
        current = {
            name: print_ for name, print_ in old["examples"].items() if _is_same(name, print_)
        }
        self.values["examples"] = current
        for name in ("peak_memory_bytes", "wall_seconds"):
            self.values[name] = old.get(name, 0)
        self.values["cells"] = {
            key: cell
            for key, cell in old["cells"].items()
            if key.split("/")[0] in current and "error" not in cell
        }


def _is_same(domain: str, before: str) -> bool:
    try:
        return fingerprint(domain) == before
    except OSError:
        return False
