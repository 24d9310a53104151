"""Whether to multiply matrices in bf16."""

from typing import Any, Literal

import torch

from cleantune.distributed.ranks import gather


def bf16_is_fast() -> bool:
    """Tell whether this machine multiplies bf16 matrices faster than fp32 ones."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able: Any = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def use_bf16(precision: Literal["auto", "bf16", "fp32"]) -> bool:
    """Turn the param ``precision`` into a yes or no, the same in all processes."""
    return all(gather(bf16_is_fast())) if precision == "auto" else precision == "bf16"
