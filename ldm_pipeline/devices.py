"""Names of devices and number types to what torch calls them, and the best of both on this machine.

Knows nothing of models or pictures.
"""

import torch

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
BF16_FEATURES = ("avx512_bf16", "amx_bf16", "bf16")
"""A CPU with one of these (x86, x86, ARM) multiplies matrices faster in bfloat16 than in float32."""


def checked_device(device: str | None) -> torch.device:
    """The device of that name, or the best one for None; a ValueError where this machine has none."""
    if device is None:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator is not None else torch.device("cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"device={device!r} cannot be used here ({reason}): use 'cpu' or leave it out"
        ) from None
    return place


def fastest_dtype(place: torch.device) -> torch.dtype:
    """The number type that a device computes in fastest without pictures suffering: what "auto" means.

    bfloat16 where the hardware computes in it, else float16 on an accelerator and float32 on a CPU.
    """
    if place.type == "cpu":
        tell = getattr(torch.cpu, "get_capabilities", dict)  # older torch does not tell: float32
        features = tell()
        return torch.bfloat16 if any(features.get(name) for name in BF16_FEATURES) else torch.float32
    if place.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16
