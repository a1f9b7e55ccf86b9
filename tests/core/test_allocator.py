"""Freed memory is kept for the next image."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import resource
from precomp_sdk.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [b"x" * (8 << 20) for _ in range(6)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(keep_freed_memory(), (faults(), faults())[1])
"""


def told(**environment: str) -> tuple[bool, int]:
    known = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=known | environment, capture_output=True, check=True, text=True
    )
    changed, faults = done.stdout.split()
    return changed == "True", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc")
def test_memory_that_was_freed_is_not_fetched_from_the_system_again() -> None:
    changed, faults = told()
    assert changed
    assert faults < 100  # pages: 40,000 and more of the 20 x 48 MB where they come from the system each time


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_environment_says_stays(name: str) -> None:
    assert told(**{name: "glibc.malloc.perturb=0" if name == "GLIBC_TUNABLES" else "131072"})[0] is False
