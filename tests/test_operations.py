"""The records of the operations: against the contract, and what follows from them."""

import inspect

import numpy as np
import pytest

from normspec.backends import contract
from normspec.backends.numpy import NumPy
from normspec.conformance.cases.arithmetic import GRADES
from normspec.conformance.cases.given import given_to
from normspec.conformance.cases.operations import METHODS, OF_METHOD, OPERATIONS
from normspec.conformance.cases.pools import DEFAULT_SEED, EXACT, PROFILES, draw
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.predictions.calls import KINDS, alone, part_of
from normspec.conformance.predictions.stacks import problems

OTHER_NAMES = {"v": "x", "g": "weight", "dw": "dy"}
"""Those of weight norm in the contract."""
FLOAT64 = GRADES["float64"][0]


def taken(function, names):
    """The arrays and the options in a function's signature."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    arrays = tuple(names.get(p.name, p.name) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)
    return arrays, {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_records_are_those_of_the_contract(method):
    names = OTHER_NAMES if method.kind.startswith("weight norm") else {}
    protocols = [p for p in vars(contract).values() if inspect.isclass(p) and p is not contract.Layer]
    described = [f for c in (*protocols, NumPy) if inspect.isfunction(f := vars(c).get(method.name))]
    assert described
    for function in described:
        assert taken(function, names) == (method.arguments, set(method.options))


def test_every_operation_of_a_claim_has_a_record_and_cases():
    assert {claim.operation for claim in CLAIMS.values()} == set(OPERATIONS) == set(EXACT)


@pytest.mark.parametrize("method", [m for m in METHODS.values() if m.kind in KINDS], ids=lambda m: m.name)
def test_a_call_is_predicted_alone_as_in_a_stack(method):
    """Under the operation's rules, and under those of its rivals: up to the rounding of float64."""
    operation = OF_METHOD[method.name]
    rivals = [r for c in CLAIMS.values() if c.operation == operation.name for r in c.rivals if r.change]
    cases = draw(EXACT[operation.name], "float64", PROFILES["quick"], DEFAULT_SEED)[:6]
    parts = [part_of(operation, method, case, given_to(operation, case)) for case in cases]
    for rules in {operation.rules, *(r.rules(operation.rules) for r in rivals)}:
        stacked = {}
        for problem, chosen in problems(parts):
            told = problem.predict(rules, FLOAT64)
            for name, expected in told.items():
                ends = problem.starts(name)[1:]
                for place, value, bound in zip(chosen, *(np.split(a, ends) for a in expected), strict=True):
                    stacked[place, name] = value, bound
        for place, part in enumerate(parts):
            for name, (value, bound) in alone(part, rules, FLOAT64).items():
                other, its_bound = stacked[place, name]
                decided = np.isfinite(other) & np.isfinite(its_bound)
                room = (bound + np.zeros_like(value)).ravel()[decided] + 1e-300
                assert (abs(value.ravel() - other)[decided] <= room).all(), (rules, name, cases[place])
