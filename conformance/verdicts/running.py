"""Running the suite's checks without pytest around them."""

import importlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.trials.adapters import Backend
from normspec.conformance.verdicts.checking import Check
from normspec.conformance.verdicts.laboratory import Laboratory
from normspec.conformance.verdicts.verdicts import Verdict

TEST_FILES = sorted(Path(__file__).parents[1].glob("test_*.py"))


@cache
def check_functions() -> dict[str, Callable[[Check], None]]:
    """The check of every claim, by the claim's id."""
    found: dict[str, Callable[[Check], None]] = {}
    for path in TEST_FILES:
        module = importlib.import_module(f"normspec.conformance.{path.stem}")
        for function in vars(module).values():
            for mark in getattr(function, "pytestmark", ()):
                if mark.name == "claim":
                    assert mark.args[0] not in found, f"{mark.args[0]} has two checks"
                    found[mark.args[0]] = function
    return found


def run_check(claim: str, backend: Backend, dtype: str, laboratory: Laboratory) -> Verdict:
    """The verdict of one check on one backend."""
    check = Check(CLAIMS[claim], backend, dtype, laboratory)
    if check.verdict is None:
        check_functions()[claim](check)
    assert check.verdict is not None
    return check.verdict
