"""Faulty backends are refused by the claim that they name; `fault_report.py` asks all claims after all of them."""

import re

import pytest
from checks import known, run_check
from faults import FAULTS
from faults.pieces import Pieces
from faults.wild import WILD
from faulty import backend
from test_sound import LABORATORY, unexpected

from normspec.conformance.cases.arithmetic import DTYPES
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.verdicts.blame import blamed, refuses
from normspec.conformance.verdicts.verdicts import Kind, Verdict

CHOSEN = {fault.claim: name for name, fault in reversed(FAULTS.items()) if not fault.explained}
"""The first fault of every claim that has one; the report asks after all."""


@pytest.mark.parametrize("name", CHOSEN.values())
def test_its_claim_refuses_it(name):
    fault = FAULTS[name]
    verdict = run_check(fault.claim, known(backend(fault.make(), name)), fault.dtype)
    assert refuses(fault.claim, fault.dtype, verdict), verdict.words


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_pieces_are_sound(dtype):
    assert unexpected("pieces", Pieces(), dtype, LABORATORY) == []


def test_there_are_many():
    assert len(FAULTS) >= 120


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_described(name):
    fault = FAULTS[name]
    assert re.fullmatch(r"\S.*\.", fault.wrong), "a docstring of one sentence or two, on one line"
    assert fault.claim in CLAIMS
    assert fault.dtype in DTYPES
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", thread) for thread in fault.threads)


@pytest.mark.parametrize("kind", WILD)
def test_every_wild_kind_has_a_fault(kind):
    assert any(set(WILD[kind]) & set(fault.threads) for fault in FAULTS.values())


def verdicts(**kinds):
    """Verdicts by claim; one that deviates follows the first rival of its claim."""
    ids = {name: name.replace("_", ".", 1).replace("_", "-") for name in kinds}
    return {
        ids[name]: Verdict(kind=kind, rival=CLAIMS[ids[name]].rivals[0].name if kind == Kind.DEVIATES else "")
        for name, kind in kinds.items()
    }


NOISY = {
    "running.update": Verdict(kind=Kind.DEVIATES, rival="updated twice"),
    "hygiene.deterministic": Verdict(kind=Kind.DEVIATES, rival="differs from run to run"),
}


@pytest.mark.parametrize(
    ("refusing", "first"),
    [
        (verdicts(running_update=Kind.FAILS, hygiene_layouts=Kind.FAILS), "running.update"),
        (verdicts(running_update=Kind.CRASHED, hygiene_layouts=Kind.FAILS), "running.update"),
        (verdicts(precision_within_bound=Kind.FAILS, hygiene_every_shape=Kind.FAILS), "precision.within-bound"),
        (verdicts(example_article=Kind.FAILS, hygiene_layouts=Kind.FAILS), "hygiene.layouts"),
        (verdicts(running_update=Kind.INCONCLUSIVE, evaluate_folded=Kind.FAILS), "evaluate.folded"),
        (verdicts(running_converges=Kind.FAILS, running_sample_variance=Kind.FAILS), "running.sample-variance"),
        (verdicts(layer_follows_operation=Kind.FAILS, precision_within_bound=Kind.FAILS), "precision.within-bound"),
        (NOISY, "hygiene.deterministic"),
        ({}, ""),
    ],
)
def test_blame(refusing, first):
    assert blamed(refusing) == first
