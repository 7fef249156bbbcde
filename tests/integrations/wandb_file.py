"""What an offline run of Weights & Biases wrote: LevelDB's log format, protobuf records inside."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

HEADER, BLOCK = 7, 32768
FULL, LAST = 1, 4


def history(path: Path) -> list[dict[str, Any]]:
    """What was logged, one dict per call, with the step as ``_step``."""
    message: Any = wandb_internal_pb2.Record  # type: ignore[attr-defined]
    found = []
    for payload in _payloads(path.read_bytes()):
        record = message.FromString(payload)
        if record.HasField("history"):
            items = record.history.item
            values = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
            found.append({**values, "_step": record.history.step.num})
    return found


def _payloads(content: bytes) -> Iterator[bytes]:
    begun, at = b"", HEADER
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        begun += content[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (FULL, LAST):
            yield begun
            begun = b""
