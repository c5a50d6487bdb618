"""How strong a run was is shown claim by claim."""

from checks import laboratory, run_check
from faulty import RulesBackend, backend

from normspec.backends.numpy import NumPy
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.reports.cells import Cell
from normspec.conformance.reports.power import of_rival, rows, table
from normspec.reference import Rules


def cells(adapter, *claims, dtype="float32"):
    lab = laboratory()
    return [
        Cell.of(
            claim=claim,
            backend="it",
            dtype=dtype,
            verdict=run_check(claim, backend(adapter), dtype, lab),
            deviation=None,
        )
        for claim in claims
    ]


def test_every_rival_of_a_conforming_backend_is_refuted_by_more_than_its_bound():
    told = rows(cells(NumPy(), "normalize.eps-inside-root", "running.update"), "it", ["float32", "float64"])
    assert [name for claim, name, _ in told if claim == "running.update"] == [
        rival.name for rival in CLAIMS["running.update"].rivals
    ]
    for _, _, (in_float32, in_float64) in told:
        assert float(in_float32) > 1
        assert in_float64 == "-"


def test_what_is_followed_left_or_not_seen_is_said():
    told = {name: words for _, name, (words,) in rows(cells(
        RulesBackend(Rules(tracked_variance="m")), "running.sample-variance", "hygiene.deterministic",
    ), "it", ["float32"])}  # fmt: skip
    assert told["population variance, divisor m"] == "followed"
    assert told["differs from run to run"] == "not seen"
    (undecided,) = cells(NumPy(), "precision.cancellation", dtype="float16")
    assert of_rival(CLAIMS["precision.cancellation"].rivals[0], undecided.verdict) == "-"


def test_the_table_has_a_row_a_rival():
    judged = cells(NumPy(), "precision.within-bound", "precision.extent")
    assert table(judged, "it").row_count == 1 + len(CLAIMS["precision.extent"].rivals)
