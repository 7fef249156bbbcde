"""Compile the kernels for GPUs that are not here, and print what came of it as JSON.

In a process of its own: Triton decides once, at its import, whether it interprets.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from precscope.kernels import triton_kernel as kernels

POINTERS = {0: "*i32", 1: "*i16", 2: "*i16"}
WARP_THREADS = 32


def cases() -> dict[str, tuple[Any, dict[str, str], dict[str, int]]]:
    found = {}
    for kind, pointer in POINTERS.items():
        fixed = {"KIND": kind, "WIDTH": kernels.TILE, "PLANES": kernels.PLANES}
        types = dict.fromkeys(fixed, "constexpr")
        for bits in (32, 64):
            one = {"source": pointer, "size": f"i{bits}", "row": "*i64", **types}
            name = f"observe_one {kind}" + ("" if bits == 64 else " i32")
            found[name] = (kernels.observe_one, one, fixed)
        found[f"observe_jobs {kind}"] = (kernels.observe_jobs, {"jobs": "*i64", **types}, fixed)
    codes = {"source": "*u8", "size": "i64", "codes": "*i64", "WIDTH": "constexpr"}
    found["count_codes"] = (kernels.count_codes, codes, {"WIDTH": kernels.CODES_TILE})
    return found


def told_by(tool_name: str, option: str, cubin: bytes) -> str:
    """What a tool of the wheel says about the machine code; nothing without it."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / tool_name
    if not tool.exists():
        return ""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        return subprocess.run([tool, option, path], capture_output=True, text=True).stdout


def stack_bytes(cubin: bytes) -> int | None:
    """Registers that did not fit."""
    found = re.search(r"STACK:(\d+)", told_by("cuobjdump", "--dump-resource-usage", cubin))
    return int(found[1]) if found else None


def tile_instructions(cubin: bytes) -> int | None:
    """Instructions of a thread for an ordinary tile: the block that loads, and the one that counts."""
    blocks = re.split(r"^\.L_\w+:", told_by("nvdisasm", "-c", cubin), flags=re.MULTILINE)
    loads = [b for b in blocks if b.count("VIMNMX") >= kernels.VALUES.value]
    counts = [b for b in blocks if b.count("DFMA") == b.count("DADD") == kernels.VALUES.value]
    if len(loads) != 1 or len(counts) != 1:
        return None
    return len(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/", loads[0] + counts[0], re.MULTILINE))


def main() -> None:
    results = {}
    for capability in map(int, sys.argv[1:]):
        for name, (function, signature, fixed) in cases().items():
            if capability != 90 and name not in ("observe_one 1", "count_codes"):
                continue
            # A launch finds the addresses of most tensors to be multiples of 16.
            pointers = [i for i, kind in enumerate(signature.values()) if kind.startswith("*")]
            attrs = {(i,): [["tt.divisibility", 16]] for i in pointers}
            source = ASTSource(fn=function, signature=signature, constexprs=fixed, attrs=attrs)
            compiled = triton.compile(
                source,
                target=GPUTarget("cuda", capability, WARP_THREADS),
                options=dict(kernels.LAUNCH),
            )
            cubin = compiled.asm["cubin"]
            results[f"sm_{capability} {name}"] = {
                "cubin_bytes": len(cubin),
                "stack_bytes": stack_bytes(cubin),
                "tile_instructions": tile_instructions(cubin),
                "shared_bytes": compiled.metadata.shared,
                "wide_loads": len(re.findall(r"ld\.global\.v[248]", compiled.asm["ptx"])),
                "divisions": len(re.findall(r"(?:div|rem)\.[su]64", compiled.asm["ptx"])),
                "flushes": len(re.findall(r"\.ftz", compiled.asm["ptx"])),
            }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
