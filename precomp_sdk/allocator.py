"""What the C library does with freed memory: kept for the next image instead of given back."""

import ctypes
import os

__all__ = ["KEPT_BYTES", "keep_freed_memory"]

# the numbers that <malloc.h> gives them
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 32 << 20  # bytes: the most that glibc takes on 64 bits
KEPT_BYTES = 128 << 20  #: free memory at the end of the heap, above which it is given back
_CHOSEN = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have this process reuse the memory of what was freed; return whether it does now.

    By itself glibc gives blocks of some megabytes back to the system, which fills them with zeros anew for the next
    image: a fifth of a sender's time (docs/performance.md). Blocks above 32 MB are still given back, and what is free
    above 128 MB at the end of a heap, of which each thread may have its own. For programs: it changes the whole
    process, so the command line and worker processes call it, and nothing that is imported does.
    Without glibc, and where the environment says how glibc is to do it (``MALLOC_TRIM_THRESHOLD_``,
    ``MALLOC_MMAP_THRESHOLD_``, ``GLIBC_TUNABLES``), nothing is changed.

    Source: mallopt(3), the Linux man-pages project.
    """
    if any(name in os.environ for name in _CHOSEN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES))
