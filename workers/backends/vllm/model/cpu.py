"""Which numbers a CPU computes with fast, for engines that have no GPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

CPUINFO = Path("/proc/cpuinfo")

_FEATURES = re.compile(r"^(?:flags|Features)\s*:\s*(.*)$", re.M)
# By their names in /proc/cpuinfo, on x86 and on ARM.
_FAST_BFLOAT16 = {
    "avx512f": "AVX512",
    "amx_bf16": "AMX",
    "amx_tile": "AMX",
    "bf16": "bf16 instructions",
    "svebf16": "bf16 instructions",
}


class CpuDtype(NamedTuple):
    """What `dtype: auto` is on one CPU, and why."""

    name: str
    reason: str


def cpu_dtype(cpuinfo: Path = CPUINFO) -> CpuDtype:
    """The dtype that this machine's CPU computes with fast.

    Without AVX512 or AMX a product of bfloat16 takes ten times as long as one of float32. Where
    nothing is known of the CPU it is float32, which every one computes with.
    """
    try:
        found = _FEATURES.search(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return CpuDtype("float32", f"{cpuinfo} cannot be read")
    features = set(found.group(1).split()) if found else set[str]()
    for feature, name in _FAST_BFLOAT16.items():
        if feature in features:
            return CpuDtype("bfloat16", f"this CPU has {name}")
    return CpuDtype("float32", "this CPU has neither AVX512 nor AMX, and is slow at bfloat16")
