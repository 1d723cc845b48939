"""Large float32 products on a CPU by oneDNN, where that costs no accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch


@contextmanager
def onednn_products() -> Iterator[bool]:
    """Within it torch multiplies float32 matrices on a CPU by oneDNN, if they stay float32.

    Left alone torch takes MKL, which on AMD processors with AVX-512 reaches about half of what they can do.
    A switch of torch leads to oneDNN. It is meant for products in bfloat16, but on processors without tiles
    for matrices (AMX) oneDNN then multiplies in full float32. Whether it does so here is tried once, by
    products that bfloat16 gets wrong; if not, and in a torch before 2.9, nothing happens.

    Starting a product takes some 20 us longer than with MKL: it pays from a few million multiplications on.
    The switch is one for the whole process. Products in other types, float64 above all, are what they were.

    Yields:
        Whether it took effect.

    Example:
        >>> a = torch.full((256, 256), 1 + 2**-12)
        >>> with onednn_products():
        ...     products = a @ a
        >>> round(products[0, 0].item() / 256, 6)  # of numbers rounded to bfloat16: 1.0
        1.000488
    """
    if not _stays_exact():
        yield False
        return
    switch = _switch()
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        yield True
    finally:
        switch.fp32_precision = before


def _switch() -> Any:
    return getattr(torch.backends.mkldnn, "matmul", None)


@cache
def _stays_exact() -> bool:
    switch = _switch()
    # a precision that someone has chosen is left alone
    if not torch.backends.mkldnn.is_available() or getattr(switch, "fp32_precision", "") not in (
        "none",
        "ieee",
    ):
        return False
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        # 1 + 2^-12 is 1 in bfloat16
        a = torch.full((256, 256), 1 + 2**-12)
        products = torch.stack([a @ a, a @ a.mT, a.mT @ a]) / 256
    finally:
        switch.fp32_precision = before
    return bool((products - (1 + 2**-12) ** 2).abs().max() < 1e-6)
