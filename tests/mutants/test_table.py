"""Every deliberate fault still applies: what it replaces is there exactly once, and Python takes the result."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest

from tests.mutants.apply import ROOT, faulty_text
from tests.mutants.table import FAULTS, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_applies(fault: Fault) -> None:
    changed = faulty_text(fault)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse((ROOT / fault.file).read_text()))
    for path in fault.tests:
        assert not path.startswith("tests/") or (ROOT / path).exists()


def test_names_are_unique_and_many() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 25


def test_a_fault_that_does_not_apply_is_noticed() -> None:
    with pytest.raises(ValueError, match="0 times"):
        faulty_text(replace(FAULTS[0], old="no such text"))
