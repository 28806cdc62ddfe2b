import subprocess
import sys

import pytest

PAGES_OF_TENSORS = """
import resource, sys
import torch
from trainables.system.host_memory import give_back_memory, keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

if sys.argv[1] == "kept":
    keep_freed_memory()
torch.ones(2**24)
before = faults()
for _ in range(40):
    torch.ones(2**24)
print(faults() - before)
before = resident()
give_back_memory()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_memory_is_taken_again_without_new_pages_and_given_back_when_asked():
    pages = 2**26 // 4096
    taken = {}
    for how in ("kept", "as it was"):
        command = [sys.executable, "-c", PAGES_OF_TENSORS, how]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        taken[how], given_back = map(int, printed.split())
        if how == "kept":
            assert given_back > 0.9 * pages
    if taken["as it was"] < pages:
        pytest.skip("this C library keeps memory anyway")
    assert taken["kept"] < 0.2 * taken["as it was"]
