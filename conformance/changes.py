"""What changed between two merged matrices, and whether it was to be expected: what continuous integration asks.

A verdict that is as the adapter declares is expected, also where it has changed. Unexpected is a verdict that has
changed and is not as declared, and a verdict that is lost: its column, its claim or its dtype is no longer there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from normspec.conformance.matrix import SHORT
from normspec.conformance.merged import Column, Merged, shown


@dataclass(frozen=True)
class Change:
    """One verdict that is not what it was."""

    claim: str
    column: str
    """The column in the new matrix, or in the old one where it is lost."""
    dtype: str
    was: str
    """What it was before; "" where it was not there."""
    now: str
    """What it is; "" where it is lost."""
    expected: bool
    since: str = ""
    """The column of the old matrix with which it was compared, if that is another version."""


def changes(old: Merged, new: Merged) -> list[Change]:
    """Everything that changed, in the order of the new matrix; what is lost comes last.

    A column is compared with the one of its name; a new version with the latest of the same backend before it.
    """
    found: list[Change] = []
    successors: dict[str, str] = {}
    for column in new.columns:
        before = _before(column, old.columns)
        if before is not None:
            successors.setdefault(before.id, column.id)
        for claim in new.claims:
            for one in new.at(claim, column.id):
                was = old.outcomes.get((claim, before.id, one.dtype)) if before else None
                words = "" if was is None else shown(was)
                if was is not None and words != shown(one):
                    since = before.id if before and before.id != column.id else ""
                    found.append(Change(claim, column.id, one.dtype, words, shown(one), one.expected, since))
                elif was is None and not one.expected:
                    found.append(Change(claim, column.id, one.dtype, "", shown(one), expected=False))
    return [*found, *_lost(old, new, successors)]


def _before(column: Column, olds: Sequence[Column]) -> Column | None:
    """What a column is compared with."""
    same = [c for c in olds if c.id == column.id]
    earlier = [c for c in olds if c.backend == column.backend]
    return same[0] if same else earlier[-1] if earlier else None


def _lost(old: Merged, new: Merged, successors: Mapping[str, str]) -> Iterable[Change]:
    """Verdicts that are no longer there, in the column that took the place of theirs or with a column that is gone."""
    for column in old.columns:
        now = successors.get(column.id, column.id)
        for claim in old.claims:
            for one in old.at(claim, column.id):
                if (claim, now, one.dtype) not in new.outcomes:
                    yield Change(claim, column.id, one.dtype, shown(one), "", expected=False)


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
            dtypes = " ".join(SHORT[change.dtype] for change in same)
            mark = " " if expected else "!"
            lines.append(f"  {mark} {claim} [{dtypes}]: {was or 'new'} -> {now or 'lost'}")
    return lines


def unexpected(found: Iterable[Change]) -> list[Change]:
    """The changes that nobody declared."""
    return [change for change in found if not change.expected]
