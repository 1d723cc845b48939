import platform
import subprocess
import sys

import pytest

from rnnlab import memory

# 64 MiB are taken, written and freed 64 times; what counts is how many pages the system had to hand out
PROGRAM = """
import resource, torch
from rnnlab.memory import keep_freed_memory
took_effect = {call}
torch.set_num_threads(1)
torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(64):
    torch.ones(1 << 24)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(took_effect, faults * resource.getpagesize() / 2**26)
"""


def run(call):
    command = [sys.executable, "-c", PROGRAM.format(call=call)]
    took_effect, blocks = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return took_effect == "True", float(blocks)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library can be asked")
def test_freed_memory_is_used_again():
    took_effect, blocks = run("keep_freed_memory()")
    assert took_effect
    assert blocks < 16  # without it each of the 64 is new


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_another_c_library_is_left_alone(monkeypatch, error):
    def refuse(name):
        raise error

    monkeypatch.setattr(memory.ctypes, "CDLL", refuse)
    assert memory.keep_freed_memory() is False


def test_thresholds_that_are_refused_are_reported(monkeypatch):
    calls = []

    class Library:
        def mallopt(self, option, value):
            calls.append((option, value))
            return 0

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Library())
    assert memory.keep_freed_memory() is False
    assert [value for _, value in calls] == [1 << 30, 1 << 25]
