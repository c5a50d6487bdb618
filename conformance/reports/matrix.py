"""The matrix of claims and backends, as a terminal table, as Markdown, and as results.json."""

import hashlib
import io
import json
import platform
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import hypothesis
import numpy as np

from normspec import __version__
from normspec.conformance.cases import cases
from normspec.conformance.cases.arithmetic import DTYPES, SHORT
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.reports import power
from normspec.conformance.reports.cells import Cell
from normspec.conformance.reports.curves import NoPlots, drawn
from normspec.conformance.trials.adapters import Backend
from normspec.conformance.verdicts.blame import blamed
from normspec.conformance.verdicts.suite import Suite
from normspec.conformance.verdicts.verdicts import SEVERITY, Kind

if TYPE_CHECKING:
    from rich.table import Table  # imported where a table is drawn: it takes a tenth of a second

SCHEMA = 1
LEGEND = (
    "conforms: agrees with the claim on every case, and every rival was refuted. deviates: follows the named rival. "
    "fails: follows no known formula. inconclusive, ?: the data cannot decide. -: not offered. *: as declared."
)


class Entry(NamedTuple):
    """What a matrix shows of one verdict."""

    dtype: str
    kind: Kind
    rival: str
    found: str
    declared: bool
    expected: bool

    @property
    def label(self) -> str:
        """The verdict, with the rival."""
        if self.kind == Kind.NOT_OFFERED:
            return "-"
        if self.kind == Kind.INCONCLUSIVE and self.expected:
            return "?"
        return f"{self.kind}: {self.rival}" if self.rival else str(self.kind)

    @property
    def mark(self) -> str:
        """Whether it is as the adapter declares, if that declares anything."""
        if not self.declared:
            return ""
        if not self.expected:
            return ", declared otherwise"
        return "" if self.label in ("-", "?") else " *"


def cell_text(entries: Sequence[Entry]) -> str:
    """The words of one cell: every verdict, the gravest first, with the dtypes it holds for if not for all.

    Last comes what is not offered, or not decided where nothing can decide it: that is no verdict on the backend.
    """
    silent = (Kind.INCONCLUSIVE, Kind.NOT_OFFERED)
    groups: dict[tuple[str, str], list[Entry]] = {}
    for one in sorted(entries, key=lambda e: (e.expected and e.kind in silent, SEVERITY[e.kind], e.expected)):
        groups.setdefault((one.label, one.mark), []).append(one)
    told = [f"{label}{_found(of, entries)}{mark}{_only(of, entries)}" for (label, mark), of in groups.items()]
    return "; ".join(told) or "not run"


class Matrix:
    """The cells of a run, in the order of claims, backends and dtypes."""

    def __init__(self, suite: Suite, cells: Iterable[Cell]) -> None:
        self.suite = suite
        order = {claim: i for i, claim in enumerate(CLAIMS)}
        names = [b.name for b in suite.backends]
        self.cells = sorted(cells, key=lambda c: (order[c.claim], names.index(c.backend), DTYPES.index(c.dtype)))

    def at(self, claim: str, backend: str) -> list[Cell]:
        """The cells of one claim and backend, a dtype each."""
        return [c for c in self.cells if c.claim == claim and c.backend == backend]

    @property
    def claims(self) -> list[str]:
        """The claims on which there is a verdict."""
        seen = {c.claim for c in self.cells}
        return [claim for claim in CLAIMS if claim in seen]

    def text(self, claim: str, backend: str) -> str:
        """The words of one cell, see `cell_text`."""
        told = [(c, c.verdict) for c in self.at(claim, backend)]
        return cell_text([Entry(c.dtype, v.kind, v.rival, v.found, bool(c.declared), c.expected) for c, v in told])

    def tally(self) -> str:
        """How many cells have which verdict."""
        counts = {kind: sum(c.verdict.kind == kind for c in self.cells) for kind in Kind}
        return ", ".join(f"{n} {kind}" for kind, n in counts.items() if n)

    # -- for people ---------------------------------------------------------------------------------------------------

    def terminal(self, width: int, *, color: bool) -> str:
        """A table for the terminal, by rich; several, one below the other, for more backends than have room in one."""
        return "\n".join(_rendered(self._part(backends), width, color=color) for backends in self._parts(width))

    def _part(self, backends: Sequence[Backend]) -> "Table":
        from rich.text import Text

        table = _table()
        table.add_column("claim", no_wrap=True)
        for backend in backends:
            table.add_column(backend.title.replace(" ", "\n"), overflow="fold", min_width=self._width(backend))
        for claim in self.claims:
            texts = (Text(self.text(claim, b.name), style=self._style(claim, b.name)) for b in backends)
            table.add_row(Text(claim), *texts)
        return table

    def _parts(self, width: int) -> list[list[Backend]]:
        """The backends, in groups that have room beside the claims without a word being broken."""
        room = width - max(map(len, self.claims), default=0) - 2
        parts: list[list[Backend]] = [[]]
        for backend in self.suite.backends:
            if parts[-1] and sum(self._width(b) + 2 for b in [*parts[-1], backend]) > room:
                parts.append([])
            parts[-1].append(backend)
        return parts

    def _width(self, backend: Backend) -> int:
        texts = (backend.title, *(self.text(claim, backend.name) for claim in self.claims))
        return min(30, max(len(word) for text in texts for word in text.split()))

    def power(self, width: int) -> str:
        """Which rivals were refuted, and how clearly: a table for each backend."""
        tables = [_rendered(power.table(self.cells, b.name), width, color=False) for b in self.suite.backends]
        return "\n".join([*tables, textwrap.fill(power.LEGEND, width), ""])

    def blame(self) -> list[str]:
        """For every backend with verdicts that are not as declared: the claim to read first."""
        lines = []
        for backend in self.suite.backends:
            refused = [c for c in self.cells if c.backend == backend.name and not c.expected]
            firsts: dict[str, list[str]] = {}
            for dtype in backend.dtypes:
                of_dtype = {c.claim: c.verdict for c in refused if c.dtype == dtype and not c.declared}
                if claim := blamed(of_dtype):
                    firsts.setdefault(f"{claim}: {of_dtype[claim].words}", []).append(SHORT[dtype])
            lines += [f"{backend.name}, look first at {told} [{' '.join(dtypes)}]" for told, dtypes in firsts.items()]
        return lines

    def margins(self, width: int) -> str:
        """How much of its bound each quantity used at the most, by backend and dtype: the room that is left."""
        table = _table()
        table.add_column("largest error / bound")
        quantities = ("y", "running_mean", "running_var", "dx", "dweight", "dbias")
        for quantity in quantities:
            table.add_column(quantity, justify="right")
        for backend in self.suite.backends:
            for dtype in backend.dtypes:
                told = [self._worst(backend.name, dtype, quantity) for quantity in quantities]
                table.add_row(f"{backend.name} {SHORT[dtype]}", *(f"{w:.3f}" if w >= 0 else "-" for w in told))
        return _rendered(table, width, color=False)

    def _worst(self, backend: str, dtype: str, quantity: str) -> float:
        """The largest error over bound where the claim holds; -1 where nothing was measured."""
        seen = (c.verdict for c in self.cells if c.backend == backend and c.dtype == dtype)
        return max((v.worst.get(quantity, -1.0) for v in seen if v.kind == Kind.CONFORMS), default=-1.0)

    def _style(self, claim: str, backend: str) -> str:
        cells = self.at(claim, backend)
        if any(not c.expected for c in cells):
            return "bold red"
        kinds = {c.verdict.kind for c in cells}
        if Kind.DEVIATES in kinds:
            return "yellow"
        return "green" if Kind.CONFORMS in kinds else "dim"

    def markdown(self) -> str:
        """The matrix as a Markdown document."""
        backends = self.suite.backends
        lines = [
            "# Conformance of batch normalization",
            "",
            f"normspec {__version__}, profile {self.suite.profile.name}, seed {self.suite.seed}: {self.tally()}.",
            "",
            "| claim | " + " | ".join(b.title for b in backends) + " |",
            "|---" * (len(backends) + 1) + "|",
        ]
        for claim in self.claims:
            texts = (self.text(claim, b.name).replace("|", "\\|") for b in backends)
            lines.append(f"| {claim} | " + " | ".join(texts) + " |")
        lines += ["", LEGEND, ""]
        reasons = {(c.claim, c.backend, c.declared): c.reason for c in self.cells if c.declared}
        lines += [f"- {backend}, {claim}: {rival}. {why}" for (claim, backend, rival), why in reasons.items()]
        lines += [f"- {name} was not run: {reason}." for name, reason in self.suite.not_run.items()]
        lines += [f"- {problem}" for problem in self.suite.broken.values()]
        return "\n".join(lines) + "\n"

    # -- for programs -------------------------------------------------------------------------------------------------

    def results(self) -> dict[str, Any]:
        """results.json, as `results.schema.json` describes it. Nothing in it depends on how the run was distributed."""
        return {
            "schema": SCHEMA,
            "normspec": __version__,
            "python": platform.python_version(),
            "platform": _platform(),
            "numpy": np.__version__,
            "hypothesis": hypothesis.__version__,
            "profile": self.suite.profile.name,
            "seed": self.suite.seed,
            "claims": claims_digest(),
            "backends": [{"name": b.name, "version": b.version, "dtypes": list(b.dtypes)} for b in self.suite.backends],
            "not_run": self.suite.not_run,
            "broken": self.suite.broken,
            "cells": [_plain(cell) for cell in self.cells],
        }

    def write(self, *, results: str | None, markdown: str | None) -> list[Path]:
        """Write what was asked for; give the paths."""
        written = []
        if results:
            plain = json.dumps(self.results(), indent=1, sort_keys=False, allow_nan=False)
            written.append(_write(Path(results), plain + "\n"))
        if markdown:
            path = Path(markdown)
            figures, told = self._figures(path.stem)
            written.append(_write(path, self.markdown() + told))
            written += [_write(path.with_name(name), svg) for name, svg in figures.items()]
        return written

    def _figures(self, stem: str) -> tuple[dict[str, str], str]:
        """The curves of all verdicts as SVG, by file name, and the Markdown that shows them, or tells their ends."""
        figures: dict[str, str] = {}
        told = []
        for cell in (cell for cell in self.cells if cell.verdict.curves):
            title = f"{cell.claim}, {cell.backend} in {cell.dtype}: loss"
            name = re.sub(r"[^\w.-]+", "-", f"{stem}-{cell.claim}-{cell.backend}-{cell.dtype}.svg")
            ends = "; ".join(f"{n}: {c[0]:.3g} to {c[-1]:.3g}" for n, c in cell.verdict.curves.items())
            told.append(f"{title}. {ends}.")
            try:
                figures[name] = drawn(title, cell.verdict.curves)
                told.append(f"![{title}: {ends}]({quote(name)})")
            except NoPlots:
                pass
        return figures, "".join(f"\n{line}\n" for line in told)


def _table() -> "Table":
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def _rendered(table: "Table", width: int, *, color: bool) -> str:
    from rich.console import Console

    file = io.StringIO()
    Console(file=file, width=width, force_terminal=color, highlight=False, no_color=not color).print(table)
    return file.getvalue()


def _platform() -> str:
    """Operating system, processor and C library: what numbers may depend on."""
    return " ".join(part for part in (platform.system(), platform.machine(), *platform.libc_ver()) if part)


def claims_digest() -> str:
    """A fingerprint of the claims and of what makes the cases, so that other questions are not taken for the same."""
    told = json.dumps([[c.id, c.text, [r.name for r in c.rivals]] for c in CLAIMS.values()])
    makers = "".join(
        Path(cases.__file__).with_name(f"{name}.py").read_text("utf-8") for name in ("cases", "pools", "sizes")
    )
    return hashlib.sha256((told + makers).encode()).hexdigest()[:16]


def _only(group: Sequence[Entry], entries: Sequence[Entry]) -> str:
    """The dtypes of a group, if they are not all."""
    return "" if len(group) == len(entries) else f" [{' '.join(SHORT[one.dtype] for one in group)}]"


def _found(group: Sequence[Entry], entries: Sequence[Entry]) -> str:
    """The values or grades found, with their dtypes where they differ."""
    found: dict[str, list[Entry]] = {}
    for one in group:
        if one.kind == Kind.CONFORMS and one.found:
            found.setdefault(one.found, []).append(one)
    # The first of them is without its dtypes: they are the ones that no other names.
    told = [value + (_only(same, entries) if i else "") for i, (value, same) in enumerate(found.items())]
    return f" ({', '.join(told)})" if told else ""


def _plain(cell: Cell) -> dict[str, Any]:
    """A cell without what belongs to one machine, and with infinities as text: JSON has none."""
    plain = cell.serializable()
    del plain["script"], plain["again"]
    finite: dict[str, Any] = _finite(plain)
    return finite


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
