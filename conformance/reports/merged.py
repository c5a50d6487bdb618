"""Many runs, from any machines, as one matrix: a column for each version of each backend.

Only runs that asked the same belong together: the same normspec, claims, profile and seed.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from normspec import __version__
from normspec.backends import SHIPPED
from normspec.conformance.cases.arithmetic import DTYPES
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.conventions.comparison import read_conventions
from normspec.conformance.conventions.comparison import told as told_fact
from normspec.conformance.conventions.conventions import Conventions
from normspec.conformance.conventions.models import model
from normspec.conformance.reports import outcomes, script
from normspec.conformance.reports.matrix import Entry, cell_text, claims_digest
from normspec.conformance.reports.outcomes import BadResults, Outcome, Run
from normspec.conformance.verdicts.verdicts import Kind

SCHEMA = 1
ALIKE = ("normspec", "claims", "profile", "seed")
"""What runs must have in common: else their verdicts answer different questions."""


@dataclass(frozen=True)
class Column:
    """One version of one backend, as one run found it."""

    id: str
    """What tells it from all others: name and version, and where it was run if that is needed."""
    backend: str
    version: str
    dtypes: tuple[str, ...]
    settings: Mapping[str, str]
    """How the run was made, see `outcomes.SETTINGS`."""
    notes: tuple[str, ...] = ()
    """What a reader must know before comparing it with the others."""
    conventions: Conventions | None = None
    """What it does, from behaviour alone; a model stands for the backend. None if nobody asked."""
    scripts: Mapping[tuple[str, str], Path] = field(default_factory=dict)
    """Stand-alone scripts, by claim and dtype."""

    @property
    def facts(self) -> dict[str, str]:
        """What it does, in words, by topic."""
        return {fact.topic: told_fact(fact) for fact in self.conventions.facts} if self.conventions else {}


@dataclass(frozen=True)
class Merged:
    """The matrix of all of them."""

    settings: Mapping[str, str]
    """What the runs have in common."""
    made: date
    columns: tuple[Column, ...]
    outcomes: Mapping[tuple[str, str, str], Outcome]
    """By claim, column and dtype."""
    not_run: Mapping[str, str]
    """Backends that could not run anywhere, and why; adapters that could not be opened."""

    @cached_property
    def claims(self) -> list[str]:
        """The claims on which there is a verdict, in their order."""
        seen = {claim for claim, _, _ in self.outcomes}
        return [claim for claim in CLAIMS if claim in seen]

    def at(self, claim: str, column: str) -> list[Outcome]:
        """The outcomes of one claim and column, a dtype each."""
        return [self.outcomes[claim, column, d] for d in DTYPES if (claim, column, d) in self.outcomes]

    def text(self, claim: str, column: str) -> str:
        """The words of one cell, see `matrix.cell_text`."""
        return shown(*self.at(claim, column))

    def tally(self) -> dict[str, int]:
        """How many outcomes are of which kind."""
        counts = Counter(str(o.kind) for o in self.outcomes.values())
        return {kind: counts[kind] for kind in Kind if counts[kind]}

    @property
    def unexpected(self) -> list[tuple[str, Outcome]]:
        """The outcomes that are not as declared, each with its column."""
        return [(column, o) for (_, column, _), o in self.outcomes.items() if not o.expected]

    # -- for programs -------------------------------------------------------------------------------------------------

    def plain(self) -> dict[str, Any]:
        """As `matrix.schema.json` describes it."""
        return {
            "schema": SCHEMA,
            **{name: self.settings[name] for name in ALIKE},
            "made": self.made.isoformat(),
            "not_run": dict(self.not_run),
            "columns": [
                {
                    "id": c.id,
                    "backend": c.backend,
                    "version": c.version,
                    "dtypes": list(c.dtypes),
                    **{name: c.settings[name] for name in outcomes.SETTINGS if name not in ALIKE},
                    "notes": list(c.notes),
                    "facts": c.facts,
                }
                for c in self.columns
            ],
            "cells": [_plain(column, one) for (_, column, _), one in self.outcomes.items()],
        }

    def json(self) -> str:
        """The same as text, a line for each cell, so that a difference of two files can be read."""
        plain = self.plain()
        lists = {name: plain.pop(name) for name in ("columns", "cells")}
        head = json.dumps(plain, indent=1, ensure_ascii=False).removesuffix("\n}")
        for name, entries in lists.items():
            lines = ",\n".join(json.dumps(e, ensure_ascii=False, allow_nan=False) for e in entries)
            head += f',\n "{name}": [\n{lines}\n ]'
        return head + "\n}\n"

    def markdown(self) -> str:
        """The matrix as a Markdown document."""
        lines = [
            "# Conformance of batch normalization",
            "",
            f"normspec {self.settings['normspec']}, profile {self.settings['profile']}, seed {self.settings['seed']}, "
            f"{self.made:%Y-%m-%d}: {', '.join(f'{n} {kind}' for kind, n in self.tally().items())}.",
            "",
            "| claim | " + " | ".join(c.id for c in self.columns) + " |",
            "|---" * (len(self.columns) + 1) + "|",
        ]
        for claim in self.claims:
            texts = (self.text(claim, c.id).replace("|", "\\|") for c in self.columns)
            lines.append(f"| {claim} | " + " | ".join(texts) + " |")
        lines += ["", "`*`: as the adapter declares. `-`: not offered. `?`: no data can decide it in this dtype.", ""]
        lines += [f"- {c.id}: {note}" for c in self.columns for note in c.notes]
        lines += [f"- {name} was not run: {reason}" for name, reason in self.not_run.items()]
        return "\n".join(lines) + "\n"


def shown(*every: Outcome) -> str:
    """Verdicts on one claim and column, a dtype each, as a cell shows them."""
    return cell_text([Entry(o.dtype, o.kind, o.rival, o.found, o.declared, o.expected) for o in every])


# -- reading ----------------------------------------------------------------------------------------------------------


def read(path: Path) -> Merged:
    """The matrix that `Merged.json` wrote. Raises BadResults, with a sentence, where the file holds none."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["schema"] != SCHEMA:
            raise ValueError(plain["schema"])
        columns = tuple(
            Column(
                id=str(c["id"]),
                backend=str(c["backend"]),
                version=str(c["version"]),
                dtypes=tuple(c["dtypes"]),
                settings={name: str({**plain, **c}[name]) for name in outcomes.SETTINGS},
                notes=tuple(c["notes"]),
            )
            for c in plain["columns"]
        )
        names = {c.id: c.backend for c in columns}
        cells = ((c["column"], outcomes.outcome({**c, "backend": names[c["column"]]})) for c in plain["cells"])
        return Merged(
            settings={name: str(plain[name]) for name in ALIKE},
            made=date.fromisoformat(plain["made"]),
            columns=columns,
            outcomes={(o.claim, column, o.dtype): o for column, o in cells},
            not_run=plain["not_run"],
        )
    except OSError as error:
        raise BadResults(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadResults(
            f"{path} is not what `normspec matrix --json FILE` writes (schema {SCHEMA}): see matrix.schema.json."
        ) from None


def gather(places: Sequence[Path], *, mixed: bool = False, made: date | None = None) -> Merged:
    """Everything that lies in folders, or is a results.json file, as one matrix.

    Raises BadResults, with a sentence, where there is nothing, where a file cannot be read, and, unless `mixed`, where
    runs did not ask the same; `mixed` marks their columns instead.
    """
    runs: list[tuple[Path, Run]] = []
    told: list[tuple[Path, Mapping[str, Any]]] = []
    for path, plain in _files(places):
        if "cells" in plain and "columns" not in plain:
            runs.append((path, outcomes.read(path)))
        elif "conversions" in plain:
            told.append((path, plain))
    if not runs:
        raise BadResults(
            f"There are no results in {', '.join(map(str, places))}: `pytest conformance --results DIR/results.json` "
            "writes them."
        )
    settings = _common([run for _, run in runs])
    notes = {path: _otherness(run, settings) for path, run in runs}
    if not mixed and (apart := [f"{path} ({'; '.join(why)})" for path, why in notes.items() if why]):
        asked = f"normspec {settings['normspec']}, profile {settings['profile']}, seed {settings['seed']}"
        raise BadResults(
            f"These runs did not ask what the others did ({asked}): {', '.join(apart)}. Run them alike, or merge with "
            "--mixed, which marks them."
        )
    columns: dict[str, Column] = {}
    cells: dict[tuple[str, str, str], Outcome] = {}
    ran_in: dict[str, list[Path]] = {}
    for path, run in runs:
        for title in run.titles.values():
            ran_in.setdefault(title, []).append(path)
    where = {title: _told_apart(paths) for title, paths in ran_in.items()}
    for path, run in runs:
        for backend, title in run.titles.items():
            name = f"{title} ({where[title][path]})" if len(where[title]) > 1 else title
            columns[name] = Column(
                id=name,
                backend=backend,
                version=title.removeprefix(backend).strip() or "unknown",
                dtypes=run.dtypes[backend],
                settings=run.settings,
                notes=(*notes[path], *_drawn_otherwise(run, runs[0][1])),
                conventions=_conventions_of(path, backend, title, told),
                scripts=_scripts(path, backend, run.outcomes),
            )
            cells.update({(o.claim, name, o.dtype): o for o in run.outcomes if o.backend == backend})
    ran = {c.backend for c in columns.values()}
    not_run = {n: why for _, run in runs for n, why in {**run.not_run, **run.broken}.items() if n not in ran}
    ordered = sorted(columns.values(), key=_place)
    order = {c.id: i for i, c in enumerate(ordered)}
    known = {key: cells[key] for key in cells if key[0] in CLAIMS}
    rank = {claim: i for i, claim in enumerate(CLAIMS)}
    return Merged(
        settings={name: settings[name] for name in ALIKE},
        made=made or datetime.now(UTC).date(),
        columns=tuple(ordered),
        outcomes={k: known[k] for k in sorted(known, key=lambda k: (rank[k[0]], order[k[1]], DTYPES.index(k[2])))},
        not_run=not_run,
    )


def _files(places: Iterable[Path]) -> list[tuple[Path, Mapping[str, Any]]]:
    """Every JSON object in these places; folders may hold others that are none of ours."""
    found: dict[Path, tuple[Path, Mapping[str, Any]]] = {}
    for place in places:
        if not place.exists():
            raise BadResults(f"There is no {place}.")
        for path in sorted(place.rglob("*.json")) if place.is_dir() else [place]:
            try:
                plain = json.loads(path.read_text(encoding="utf-8"))
            except OSError as error:
                raise BadResults(f"{path} cannot be read: {error.strerror}.") from None
            except (ValueError, RecursionError):
                raise BadResults(f"{path} is not JSON: was its run cut off? Run it again, or take it away.") from None
            if isinstance(plain, dict):
                found.setdefault(path.resolve(), (path, plain))
    return list(found.values())


def _told_apart(paths: Iterable[Path]) -> dict[Path, str]:
    """As much of the end of each path as no other has: of its folder, and its name if that is not results.json."""
    parts = {}
    for path in paths:
        file = path.resolve()
        parts[path] = (file.parent if file.name == "results.json" else file).parts
    told = {}
    for path, own in parts.items():
        others = [other for its_path, other in parts.items() if its_path != path]
        enough = next(n for n in range(1, len(own) + 1) if all(other[-n:] != own[-n:] for other in others))
        told[path] = Path(*own[-enough:]).as_posix()
    return told


def _common(runs: Sequence[Run]) -> dict[str, str]:
    """What most runs have in common: this normspec's own claims before all others."""
    kinds = Counter(tuple(run.settings[name] for name in ALIKE) for run in runs)
    digest = claims_digest()
    best = max(kinds, key=lambda kind: (kind[ALIKE.index("claims")] == digest, kinds[kind]))
    return dict(zip(ALIKE, best, strict=True))


def _otherness(run: Run, settings: Mapping[str, str]) -> tuple[str, ...]:
    """In what a run differs from what the matrix is about."""
    notes = []
    if run.settings["claims"] != settings["claims"] or settings["claims"] != claims_digest():
        notes.append(f"was asked other claims, rivals or cases than those of normspec {__version__} here")
    names = [name for name in ALIKE if name != "claims" and run.settings[name] != settings[name]]
    return tuple(notes + [f"{name} {run.settings[name]}" for name in names])


def _drawn_otherwise(run: Run, first: Run) -> list[str]:
    """Other versions of what draws the cases and computes the reference; the claims are the same."""
    differing = [name for name in ("hypothesis", "numpy") if run.settings[name] != first.settings[name]]
    names = {"hypothesis": "cases drawn by Hypothesis", "numpy": "reference computed by NumPy"}
    return [f"{names[n]} {run.settings[n]}, elsewhere {first.settings[n]}" for n in differing]


def _conventions_of(
    path: Path, backend: str, title: str, told: Sequence[tuple[Path, Mapping[str, Any]]]
) -> Conventions | None:
    """What `normspec conventions` told of a backend in the same folder."""
    for its_path, plain in told:
        if its_path.parent != path.parent:
            continue
        try:
            for one in plain["backends"]:
                named = one["name"] if one["version"] == "unknown" else f"{one['name']} {one['version']}"
                if named == title:
                    return read_conventions(one, partial(model, backend, one["version"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise BadResults(
                f"{its_path} is not what this normspec's `conventions --json` writes: make it again."
            ) from None
    return None


def _scripts(path: Path, backend: str, cells: Iterable[Outcome]) -> dict[tuple[str, str], Path]:
    """The stand-alone scripts that the run left beside its results."""
    there = {file.name: file for file in sorted(path.parent.rglob("*.py"))}
    wanted = {(o.claim, o.dtype): script.filename(o.claim, o.backend, o.dtype) for o in cells if o.backend == backend}
    return {key: there[name] for key, name in wanted.items() if name in there}


def _place(column: Column) -> tuple[int, str, Version, str]:
    """The order of columns: as the adapters are listed, then by version."""
    names = list(SHIPPED)
    listed = names.index(column.backend) if column.backend in names else len(names)
    return listed, column.backend, release(column), column.id


def release(column: Column) -> Version:
    """Its version, as it is ordered; what is no version comes first."""
    try:
        return Version(column.version)
    except InvalidVersion:
        return Version("0")


def _plain(column: str, one: Outcome) -> dict[str, Any]:
    """A cell: what is empty is left out, ratios have three digits."""
    seen = one.counterexample
    told: dict[str, Any] = {
        "claim": one.claim,
        "column": column,
        "dtype": one.dtype,
        "kind": str(one.kind),
        "rival": one.rival,
        "found": one.found,
        "words": one.words,
        "expected": one.expected,
        "declared": one.declared,
        "reason": one.reason,
        "cases": one.cases,
        "worst": {name: _number(ratio) for name, ratio in one.worst.items()},
        "margins": [[_number(spread), _number(ratio)] for spread, ratio in one.margins],
        "counterexample": None
        if seen is None
        else {
            "case": seen.case,
            "experiment": seen.experiment,
            "quantity": seen.quantity,
            "index": list(seen.index),
            "got": _exact(seen.got),
            "expected": _exact(seen.expected),
            "bound": _exact(seen.bound),
        },
    }
    kept = ("claim", "column", "dtype", "kind", "expected")
    return {name: value for name, value in told.items() if name in kept or value}


def _number(value: float) -> float | str:
    return _exact(float(f"{value:.3g}"))


def _exact(value: float) -> float | str:
    """JSON has no infinities: they are text."""
    return value if abs(value) < float("inf") else str(value)
