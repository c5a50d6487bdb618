"""A cell of the matrix: one verdict, whether it is as declared, and what a person reads if it is not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.trials.deviations import Deviation
from normspec.conformance.verdicts.verdicts import Kind, Verdict


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The verdict on a claim for one backend and dtype, beside what the adapter declares."""

    claim: str
    backend: str
    dtype: str
    verdict: Verdict
    declared: str = ""
    """The rival declared, "" if none is."""
    expected: bool = False
    """Whether the verdict is as declared, or as it must be where nothing is declared."""
    reason: str = ""
    """Why a declared deviation stands, or why nothing could be decided."""
    script: str = ""
    """Path of the stand-alone script, if one was written."""
    again: str = ""
    """The command that runs just this check."""

    @classmethod
    def of(cls, *, claim: str, backend: str, dtype: str, verdict: Verdict, deviation: Deviation | None) -> "Cell":
        """The cell of a verdict, held against the deviation declared for it, if any."""
        undecidable = (CLAIMS[claim].undecidable or {}).get(dtype, "")
        if deviation is not None:
            expected = deviation.rival == (verdict.rival or verdict.kind)
            reason = f"{deviation.reason} ({deviation.link})"
            return cls(
                claim=claim,
                backend=backend,
                dtype=dtype,
                verdict=verdict,
                declared=deviation.rival,
                expected=expected,
                reason=reason,
            )
        expected = verdict.kind in (Kind.CONFORMS, Kind.NOT_OFFERED) or (
            verdict.kind == Kind.INCONCLUSIVE and bool(undecidable)
        )
        return cls(claim=claim, backend=backend, dtype=dtype, verdict=verdict, expected=expected, reason=undecidable)

    def settle(self) -> None:
        """Turn the cell into a pytest outcome: passed, skipped, xfailed, or failed with its message."""
        if not self.expected:
            pytest.fail(self.message(), pytrace=False)
        if self.declared:
            pytest.xfail(f"{self.verdict.label}, as declared: {self.reason}")
        if self.verdict.kind in (Kind.NOT_OFFERED, Kind.INCONCLUSIVE):
            pytest.skip(f"{self.verdict.kind}: {self.verdict.words}")

    def message(self) -> str:
        """What went wrong, for a person: claim, verdict, evidence, and how to go on."""
        claim, verdict = CLAIMS[self.claim], self.verdict
        lines = [
            f"{claim.id} ({claim.source}), {self.backend} in {self.dtype}: {verdict.label}",
            f"  claim    {claim.text}",
        ]
        if self.declared and verdict.kind == Kind.CONFORMS:
            lines.append(f"  verdict  conforms, but the adapter declares {self.declared!r}: remove the declaration")
        elif self.declared:
            lines.append(f"  verdict  {verdict.words}; the adapter declares {self.declared!r}")
        else:
            lines.append(f"  verdict  {verdict.words}")
        seen = verdict.counterexample
        if seen is not None:
            lines.append(f"  case     {seen.case}")
        if seen is not None and seen.quantity:
            expected = f"expected {seen.expected:.9g} within {seen.bound:.2g} ({seen.experiment})"
            lines.append(f"  worst    {seen.quantity}{list(seen.index)} is {seen.got:.9g}, {expected}")
        if claim.hint and verdict.kind not in (Kind.CRASHED, Kind.HUNG):  # it is about results, and there are none
            lines.append(f"  look at  {claim.hint}")
        if self.again:
            lines.append(f"  again    {self.again}")
        if self.script:
            lines.append(f"  script   {self.script}")
        return "\n".join(lines)

    def serializable(self) -> dict[str, Any]:
        """Plain values, as they travel between processes and stand in results.json."""
        plain = {k: getattr(self, k) for k in self.__dataclass_fields__}
        return {**plain, "verdict": self.verdict.serializable()}

    @classmethod
    def from_serializable(cls, plain: Mapping[str, Any]) -> "Cell":
        """The cell that `serializable` wrote."""
        return cls(**{**plain, "verdict": Verdict.from_serializable(plain["verdict"])})
