"""Every rival of every claim, run as a faulty backend, is refused and named exactly."""

import pytest
from checks import known, run_check
from faulty import DTYPE, FAULTS, backend

from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.verdicts.verdicts import Kind

RIVALS = [(claim.id, rival.name) for claim in CLAIMS.values() for rival in claim.rivals]


def test_every_rival_has_a_faulty_backend() -> None:
    assert set(RIVALS) == set(FAULTS)


@pytest.mark.parametrize(("claim", "rival"), RIVALS)
def test_rival_is_named(claim: str, rival: str) -> None:
    faulty = known(backend(FAULTS[claim, rival]()))
    verdict = run_check(claim, faulty, DTYPE.get((claim, rival), "float32"))
    assert (verdict.kind, verdict.rival) == (Kind.DEVIATES, rival), verdict.words
