"""What changed between two merged matrices, and whether that was expected: for continuous integration.

A verdict that is as the adapter declares is expected, also where it has changed; so is an improvement that nobody had
to declare. Unexpected is a verdict that has changed and is not as declared, and a verdict that is lost: its column, its
claim or its dtype is no longer there, or what was told is no longer offered or decided.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from normspec.conformance.cases.arithmetic import SHORT
from normspec.conformance.reports.merged import Column, Merged, release, shown
from normspec.conformance.reports.outcomes import Outcome
from normspec.conformance.verdicts.verdicts import Kind


@dataclass(frozen=True)
class Change:
    """One verdict that is not what it was."""

    claim: str
    column: str
    """The column in the new matrix, or in the old one if nothing took its place."""
    dtype: str
    was: str
    """What it was before; "" where it was not there."""
    now: str
    """What it is; "" where it is lost."""
    expected: bool
    since: str = ""
    """The column of the old matrix with which it was compared, if that is another one."""


def changes(old: Merged, new: Merged) -> list[Change]:
    """Everything that changed, in the order of the new matrix; what is lost comes last.

    A column is compared with the one of its id; a new one with the latest version of its backend that is not after it.
    """
    found: list[Change] = []
    for column in new.columns:
        same = next((c for c in old.columns if c.id == column.id), None)
        before = same or _before(column, old.columns)
        since = before.id if before and before.id != column.id else ""
        for claim in new.claims:
            for one in new.at(claim, column.id):
                was = old.outcomes.get((claim, before.id, one.dtype)) if before else None
                words = "" if was is None else shown(was)
                if was is not None and words != shown(one):
                    expected = one.expected and (one.declared or not _taken_back(was, one))
                    found.append(Change(claim, column.id, one.dtype, words, shown(one), expected, since))
                elif was is None and not one.expected:
                    found.append(Change(claim, column.id, one.dtype, "", shown(one), expected=False))
    return [*found, *_lost(old, new)]


def _before(column: Column, olds: Iterable[Column]) -> Column | None:
    """The latest version of a column's backend that is not after it: the same version may have been run elsewhere."""
    earlier = [c for c in olds if c.backend == column.backend and release(c) <= release(column)]
    return max(earlier, key=release, default=None)


def _taken_back(was: Outcome, now: Outcome) -> bool:
    """Whether what was told before is told no longer: it is not offered, or was decided and now is not."""
    if now.kind == Kind.INCONCLUSIVE:
        return was.kind in (Kind.CONFORMS, Kind.DEVIATES)
    return now.kind == Kind.NOT_OFFERED


def _lost(old: Merged, new: Merged) -> Iterable[Change]:
    """Verdicts that are no longer there: in their own column, in each new one that took its place, or with the column.

    A new column takes the place of one that is gone, never of one that is still there.
    """
    known, kept = ({column.id for column in matrix.columns} for matrix in (old, new))
    gone = [column for column in old.columns if column.id not in kept]
    took = [(column.id, _before(column, gone)) for column in new.columns if column.id not in known]
    for column in old.columns:
        heirs = [name for name, before in took if before and before.id == column.id]
        for name in heirs or [column.id]:
            since = column.id if heirs else ""
            for (claim, its, dtype), one in old.outcomes.items():
                if its == column.id and (claim, name, dtype) not in new.outcomes:
                    yield Change(claim, name, dtype, shown(one), "", expected=False, since=since)


def told(found: Sequence[Change]) -> list[str]:
    """The changes in lines: verdicts of one column and claim that changed alike together, a lost column as a whole."""
    lines = []
    for (column, since), of_column in groupby(found, key=lambda c: (c.column, c.since)):
        group = list(of_column)
        if all(not change.now for change in group) and len({change.claim for change in group}) > 1:
            lines.append(f"! {column}: {len(group)} verdicts are lost")
            continue
        lines.append(f"{column}, since {since}:" if since else f"{column}:")
        alike = groupby(group, key=lambda c: (c.claim, c.was, c.now, c.expected))
        for (claim, was, now, expected), same in alike:
            dtypes = " ".join(SHORT.get(change.dtype, change.dtype) for change in same)
            mark = " " if expected else "!"
            lines.append(f"  {mark} {claim} [{dtypes}]: {was or 'new'} -> {now or 'lost'}")
    return lines


def unexpected(found: Iterable[Change]) -> list[Change]:
    """The changes that nobody declared."""
    return [change for change in found if not change.expected]
