"""What the process of a script is told, and what it tells: two small files of JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from precscope.recipe import Recipe
from precscope.script.target import Script


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a script.

    Attributes:
        script: what is run.
        events: file that the run reports to.
        steps: optimizer steps to observe or to train.
        every: observe every n-th.
        keep_going: leave the script to run on after them.
        keep_compile: leave the script's own ``torch.compile`` on.
        recording: the Recording to write; None for a run that is not observed.
        recipe: how to train a run that is not observed.
        seed: seed of torch, NumPy and random before the script starts; None leaves them alone.
        command: the command line, for the Recording.
        wants_dtypes: tell which dtype each site has, in place of the losses.
        counts_saved: count what the first forward passes save for backward.
        seed_shift: added to every seed that the script sets itself.
    """

    script: Script
    events: str
    steps: int
    every: int = 1
    keep_going: bool = False
    keep_compile: bool = False
    recording: str | None = None
    recipe: Recipe | None = None
    seed: int | None = None
    command: str = ""
    wants_dtypes: bool = False
    counts_saved: bool = True
    seed_shift: int = 0

    def write(self, path: Path) -> None:
        """Write the job as JSON."""
        recipe = None if self.recipe is None else self.recipe.to_dict()
        path.write_text(json.dumps({**asdict(self), "recipe": recipe}), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Job:
        """The job that ``write`` wrote."""
        given: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        script = given["script"]
        given["script"] = Script(**{**script, "arguments": tuple(script["arguments"])})
        if given["recipe"] is not None:
            given["recipe"] = Recipe.from_dict(given["recipe"])
        return cls(**given)


class Events:
    """Appends one line of JSON per event; silent in a forked child."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115, PTH123
        self._pid = os.getpid()

    def tell(self, event: str, **values: Any) -> None:
        """Report an event with its values."""
        if os.getpid() == self._pid:
            self._file.write(json.dumps({"event": event, **values}) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class EventReader:
    """Reads the events of a run while it writes them."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._offset = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Whole lines that are new since the last time."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line)
