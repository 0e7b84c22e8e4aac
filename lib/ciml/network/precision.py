"""Number format in which a device computes fastest without loss of quality."""

from __future__ import annotations

from typing import Literal, get_args

import torch

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def precision_for(device: torch.device | str) -> Precision:
    """Fastest format of a device: bfloat16 with hardware support, float16 on an older GPU, else float32.

    A CPU without bfloat16 hardware would emulate bfloat16, which is slower than float32.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    able = torch.cpu.get_capabilities()
    return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"


def autocast(device: torch.device | str, precision: Precision) -> torch.autocast:
    """Context in which a network computes in this precision; float32 changes nothing.

    Raises:
        ValueError: If there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}.")
    return torch.autocast(
        torch.device(device).type,
        dtype=torch.bfloat16 if precision == "float32" else getattr(torch, precision),
        enabled=precision != "float32",
    )
