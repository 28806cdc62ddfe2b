"""A short part of `make fuzz`: damaged inputs are refused with a line."""

import pytest
from fuzz import faults_of, fuzz


@pytest.mark.parametrize("seed", [100])
def test_damaged_inputs_are_refused_in_a_line(seed: int):
    lines = fuzz(70, seed)
    assert len(lines) == 70
    assert [line for line in lines if line["faults"]] == []


def test_the_fuzzer_finds_faults():
    assert faults_of(2, "", "flopwise: wrong\n", 1.0) == []
    assert faults_of(0, "fine", "", 1.0) == []
    assert faults_of(1, "", "Traceback (most recent call last):", 1.0)
    assert faults_of(2, "", "", 1.0)
    assert faults_of(2, "", "x" * 1000, 1.0)
    assert faults_of(2, "", "x\n" * 100, 1.0)
    assert faults_of(2, "\x1b[2J", "x", 1.0)
    assert faults_of(0, "", "", 11.0)
