"""Keep freed memory in the process: large tensors of a training step are then not paged in anew each time."""

from __future__ import annotations

import ctypes

# malloc.h of the GNU C library
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory(size: int = 1 << 30) -> bool:
    """Ask the GNU C library to reuse blocks of up to `size` bytes instead of giving them back to the system.

    By default it takes every block above a few megabytes fresh from the system and returns it when it is
    freed, so each training step pays for page faults: on CPU up to half of its time for a recurrent network
    on long sequences. The price is that the process holds on to its peak memory. Call it once, before the
    first large allocation. Under another C library (macOS, Windows, musl) nothing happens.

    Args:
        size: Largest block that is kept, in bytes.

    Returns:
        Whether it took effect.

    References:
        mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # some versions refuse a threshold for mmap above half a heap, 32 MiB
    raised = mallopt(_M_MMAP_THRESHOLD, size) or mallopt(_M_MMAP_THRESHOLD, min(size, 1 << 25))
    return bool(raised) and bool(mallopt(_M_TRIM_THRESHOLD, size))
