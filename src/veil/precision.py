"""Mixed precision where the processor gains from it: bf16 with hardware dot products, else fp32."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]


@cache
def has_fast_bf16(device_type: str) -> bool:
    """Whether bf16 is faster than fp32 here: any recent GPU, or a CPU with avx512_bf16 or AMX."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def autocast(device: torch.device, precision: Precision = "auto") -> torch.autocast:
    """A context in which convolutions and matrix products run in bf16 where that is faster."""
    fast = precision == "bf16" or (precision == "auto" and has_fast_bf16(device.type))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)
