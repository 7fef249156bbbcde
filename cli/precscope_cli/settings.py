"""``[tool.precscope]`` of the nearest ``pyproject.toml``: rules, waivers and options of the gate."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from precscope.errors import UsageError
from precscope_cli.options import DEVICE

FILE = "pyproject.toml"
TABLE = "[tool.precscope]"


@dataclass(frozen=True, slots=True)
class WaiverEntry:
    """A waiver as it stands in the file: what, where and why."""

    rule: str
    sites: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What a project says about its gate.

    Attributes:
        path: the file; None if there is none with this table.
        fail_on: the rules.
        waivers: accepted hits.
        options: ``train`` and fields of ``AnalysisOptions``, for what has to be run first.
        github: whether to write annotations; None decides by the environment.
        junit: where to write JUnit XML, relative to the file's folder; None for nowhere.
        allow_missing: whether a rule may be about something that the run does not have.
    """

    path: Path | None = None
    fail_on: tuple[str, ...] = ()
    waivers: tuple[WaiverEntry, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    github: bool | None = None
    junit: Path | None = None
    allow_missing: bool = False


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_device(value: Any) -> bool:
    return isinstance(value, str) and bool(DEVICE.fullmatch(value))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_text_or_texts(value: Any) -> bool:
    return _is_text(value) or _are_texts(value)


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


Check = tuple[Callable[[Any], bool], str]

OPTIONS: dict[str, Check] = {
    "steps": (_is_count, "a number from 1 on"),
    "every": (_is_count, "a number from 1 on"),
    "seed": (_is_seed, "a number from 0 to 4294967295"),
    "device": (_is_device, "auto, cpu, cuda or cuda:N"),
    "train": (_is_flag, "true or false"),
    "recipes": (_are_texts, "a list of names of recipes"),
    "recipe-steps": (_is_count, "a number from 1 on"),
    "seeds": (_is_count, "a number from 1 on"),
}
"""Keys that say how to run what has to be run first."""

KEYS: dict[str, Check] = {
    "fail-on": (_is_text_or_texts, "a rule or a list of rules"),
    "waivers": (_are_tables, "tables: [[tool.precscope.waivers]]"),
    "github": (_is_flag, "true or false"),
    "junit": (_is_text, "a path"),
    "allow-missing": (_is_flag, "true or false"),
    **OPTIONS,
}

WAIVER_KEYS: dict[str, Check] = {
    "rule": (_is_text, "the quantity of a rule, or finding NAME"),
    "site": (_is_text_or_texts, "a name or pattern, or a list of them"),
    "reason": (_is_text, "a reason in words"),
}


def find_settings(*folders: Path) -> Settings:
    """The settings of the nearest file at or above the first folder that has any.

    Args:
        *folders: tried in turn, each with all folders above it.

    Raises:
        UsageError: a file on the way is not TOML, or its table is wrong.
    """
    for folder in folders:
        absolute = folder.absolute()
        for candidate in (absolute, *absolute.parents):
            path = candidate / FILE
            if _exists(path) and (table := read_table(path)) is not None:
                return settings_from(table, path)
    return Settings()


def load_settings(path: Path) -> Settings:
    """The settings of this file.

    Raises:
        UsageError: it cannot be read, is not TOML, has no such table, or the table is wrong.
    """
    table = read_table(path)
    if table is None:
        raise UsageError(f"{path} has no table {TABLE}")
    return settings_from(table, path)


def read_table(path: Path) -> dict[str, Any] | None:
    """The table ``[tool.precscope]`` of a file, None if it has none.

    Raises:
        UsageError: the file cannot be read or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}: it is not UTF-8 ({error.reason})") from error
    if "precscope" not in text:
        return None
    reader = _toml()
    if reader is None:
        raise UsageError(f"{path}: this Python has no TOML reader: pip install tomli")
    try:
        tool = reader.loads(text).get("tool")
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    table = tool.get("precscope") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise UsageError(f"{path}: tool.precscope is no table")
    return table


def settings_from(table: Mapping[str, Any], path: Path) -> Settings:
    """The settings in a table.

    Raises:
        UsageError: an unknown key, whose nearest is named, or a value of the wrong kind.
    """
    where = f"{path}, {TABLE}"
    _check(table, KEYS, where)
    junit = table.get("junit")
    return Settings(
        path=path,
        fail_on=_texts(table.get("fail-on", [])),
        waivers=tuple(_waiver(entry, path) for entry in table.get("waivers", [])),
        options={key.replace("-", "_"): table[key] for key in OPTIONS if key in table},
        github=table.get("github"),
        junit=None if junit is None else path.parent / junit,
        allow_missing=table.get("allow-missing", False),
    )


def _waiver(entry: Mapping[str, Any], path: Path) -> WaiverEntry:
    where = f"{path}, [[tool.precscope.waivers]]"
    _check(entry, WAIVER_KEYS, where)
    for key in ("rule", "reason"):
        if key not in entry:
            raise UsageError(f"{where}: a waiver needs a {key}: {WAIVER_KEYS[key][1]}")
    return WaiverEntry(entry["rule"], _texts(entry.get("site", [])), entry["reason"])


def _check(table: Mapping[str, Any], known: Mapping[str, Check], where: str) -> None:
    for key, value in table.items():
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}: the nearest is {_nearest(key, known)}")
        is_right, wanted = known[key]
        if not is_right(value):
            raise UsageError(f"{where}: {key} is {value!r}: write {wanted}")


def _nearest(word: str, known: Iterable[str]) -> str:
    return get_close_matches(word.lower(), list(known), n=1, cutoff=0.0)[0]


def _texts(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder above that may not be looked into
        return False


def _toml() -> ModuleType | None:
    """``tomllib``, which Python has from 3.11 on, or ``tomli``, from which it was taken."""
    with suppress(ImportError):
        return importlib.import_module("tomllib")
    with suppress(ImportError):
        return importlib.import_module("tomli")
    return None
