"""How strong a run was: for every claim and dtype, which rivals were refuted, how clearly, and which were not."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from normspec.conformance.cases.arithmetic import DTYPES, GRADE_NAMES
from normspec.conformance.claims.claims import CLAIMS, Rival
from normspec.conformance.reports.cells import Cell
from normspec.conformance.verdicts.verdicts import Kind, Verdict

if TYPE_CHECKING:
    from rich.table import Table  # imported where a table is drawn: it takes a tenth of a second

LEGEND = (
    "In bounds: how far the first case that refutes a rival is from it. finer: a finer grade agrees. not seen: looked "
    "for in every case. left: the data cannot exclude it. followed: the backend does so. -: not judged."
)


def of_rival(rival: Rival, verdict: Verdict) -> str:
    """What one verdict says about one rival, in a word or a number."""
    if rival.name in verdict.refuted:
        return f"{float(verdict.refuted[rival.name]):.1g}"
    if rival.name in verdict.left:
        return "left"
    if rival.name in verdict.rival:
        return "followed"
    if verdict.kind != Kind.CONFORMS:
        return "-"
    if rival.change:  # a layer's rival where there is no layer, or input that was refused
        return "-"
    return "finer" if rival.name in GRADE_NAMES else "not seen"


def rows(cells: Iterable[Cell], backend: str, dtypes: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Claim, rival, and what is said of it in each dtype, for every rival of every claim that the backend offers."""
    found = {(c.claim, c.dtype): c.verdict for c in cells if c.backend == backend}
    made = []
    for claim in CLAIMS.values():
        verdicts = [found.get((claim.id, dtype)) for dtype in dtypes]
        if all(v is None or v.kind == Kind.NOT_OFFERED for v in verdicts):
            continue
        for rival in claim.rivals:
            made.append((claim.id, rival.name, [of_rival(rival, v) if v else "-" for v in verdicts]))
    return made


def table(cells: Sequence[Cell], backend: str) -> "Table":
    """The rows of one backend as a table for the terminal."""
    from rich.table import Table

    judged = {cell.dtype for cell in cells if cell.backend == backend}
    dtypes = [dtype for dtype in DTYPES if dtype in judged]
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title_justify="left")
    made.add_column("claim", no_wrap=True)
    made.add_column(f"rival of {backend}", overflow="fold")
    for dtype in dtypes:
        made.add_column(dtype, justify="right")
    before = ""
    for claim, rival, told in rows(cells, backend, dtypes):
        made.add_row("" if claim == before else claim, rival, *told)
        before = claim
    return made
