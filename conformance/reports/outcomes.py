"""The results of earlier runs, read from results.json files, as the claims page shows them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from normspec.conformance.cases.arithmetic import SHORT
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.reports.matrix import SCHEMA, claims_digest
from normspec.conformance.verdicts.verdicts import SEVERITY, Counterexample, Kind

SETTINGS = ("normspec", "claims", "profile", "seed", "hypothesis", "numpy", "python", "platform")
"""What results.json says of how it was made."""


class BadResults(Exception):
    """A file that cannot be read as results.json; says why in one sentence."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One verdict, as far as the page tells it."""

    claim: str
    backend: str
    dtype: str
    kind: Kind
    rival: str
    found: str
    words: str
    expected: bool
    declared: bool
    reason: str
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Numbers by step, by name, where the claim is about a course of something."""
    cases: int = 0
    worst: Mapping[str, float] = field(default_factory=dict)
    """The largest error over bound, by quantity."""
    margins: tuple[tuple[float, float], ...] = ()
    """Where it was measured: how the error over the bound goes with the mean over the deviation."""
    counterexample: Counterexample | None = None

    @property
    def label(self) -> str:
        """The verdict, with the rival or what was found."""
        rival = f": {self.rival}" if self.rival else ""
        found = f" ({self.found})" if self.found and self.kind == Kind.CONFORMS else ""
        return f"{self.kind}{rival}{found}"

    @property
    def note(self) -> str:
        """What a reader should know beside it: why a deviation stands, why nothing is decided, what went wrong."""
        wrong = self.kind not in (Kind.CONFORMS, Kind.NOT_OFFERED) and not self.expected
        return self.reason or (self.words if wrong else "")


@dataclass(frozen=True)
class Row:
    """What one backend's verdict on a claim is, in the dtypes for which it is the same."""

    title: str
    """The backend and its version."""
    outcome: Outcome
    """That of the first of these dtypes."""
    dtypes: str
    """Their short names."""


@dataclass(frozen=True)
class Run:
    """One file: how it was made, and its verdicts."""

    file: str
    made: str
    """Versions, platform, profile and seed, in a line."""
    titles: Mapping[str, str]
    """Name and version of each backend, by its name."""
    outcomes: tuple[Outcome, ...]
    problems: tuple[str, ...]
    """What was not run, and what a reader of these results should know."""
    settings: Mapping[str, str]
    """By name: the versions, the platform, the profile, the seed, and the fingerprint of the claims."""
    dtypes: Mapping[str, tuple[str, ...]]
    """What each backend offers, by its name."""
    not_run: Mapping[str, str]
    """Why backends could not run, by name."""
    broken: Mapping[str, str]
    """Adapters that could not be opened, as they were named, and why."""

    def rows(self, claim: str) -> list[Row]:
        """The verdicts on a claim: a row for each backend and verdict, in the order of the file."""
        rows = []
        for name, title in self.titles.items():
            seen = [o for o in self.outcomes if (o.claim, o.backend) == (claim, name)]
            seen.sort(key=lambda o: (SEVERITY[o.kind], o.label, o.note))
            for _, same in groupby(seen, key=lambda o: (o.label, o.note, o.declared, o.expected, o.curves)):
                group = list(same)
                rows.append(Row(title, group[0], " ".join(SHORT.get(o.dtype, o.dtype) for o in group)))
        return rows

    def worst(self, claim: str) -> list[tuple[str, Outcome | None]]:
        """For each backend, the first verdict on a claim that is not as it should be, else what it is where decided."""
        # A verdict that is as it must be is told only where no other is: half precision cannot decide much.
        silent = (Kind.INCONCLUSIVE, Kind.NOT_OFFERED)
        found = []
        for name, title in self.titles.items():
            seen = [o for o in self.outcomes if (o.claim, o.backend) == (claim, name)]
            first = min(seen, key=lambda o: (o.expected, o.kind in silent, SEVERITY[o.kind]), default=None)
            found.append((title, first))
        return found


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """The same runs; a backend that is in several of them has the file's name beside its own."""
    count = Counter(title for run in runs for title in run.titles.values())
    return [
        replace(
            run,
            titles={name: f"{title} ({run.file})" if count[title] > 1 else title for name, title in run.titles.items()},
        )
        for run in runs
    ]


def read(path: Path) -> Run:
    """The run in a results.json file. Raises BadResults where it is none; keys that are not known are passed over."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadResults(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise BadResults(f"{path} is not JSON; give a file that `pytest conformance --results FILE` wrote.") from None
    try:
        return _run(path.name, plain)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadResults(
            f"{path} is not what `pytest conformance --results FILE` writes (schema {SCHEMA}): see results.schema.json."
        ) from None


def _run(file: str, plain: Any) -> Run:
    if plain["schema"] != SCHEMA:
        raise ValueError(plain["schema"])
    outcomes = tuple(_outcome(cell) for cell in plain["cells"])
    problems = [f"{name} was not run: {reason}" for name, reason in plain.get("not_run", {}).items()]
    problems += [str(problem) for problem in plain.get("broken", {}).values()]
    if plain.get("claims") != claims_digest():
        problems.append("These results answer other claims or cases than those of this page: run the suite again.")
    if gone := sorted({o.claim for o in outcomes} - set(CLAIMS)):
        problems.append(f"Claims that are no longer made are left out: {', '.join(gone)}.")
    made = (
        f"normspec {plain['normspec']}, Python {plain['python']}, NumPy {plain['numpy']}, {plain['platform']}; "
        f"profile {plain['profile']}, seed {plain['seed']}"
    )
    titles = {
        b["name"]: b["name"] if b["version"] == "unknown" else f"{b['name']} {b['version']}" for b in plain["backends"]
    }
    return Run(
        file,
        made,
        titles,
        outcomes,
        tuple(problems),
        settings={name: str(plain[name]) for name in SETTINGS},
        dtypes={str(b["name"]): tuple(b["dtypes"]) for b in plain["backends"]},
        not_run={str(name): str(why) for name, why in plain.get("not_run", {}).items()},
        broken={str(name): str(why) for name, why in plain.get("broken", {}).items()},
    )


def _outcome(cell: Mapping[str, Any]) -> Outcome:
    return outcome({**cell["verdict"], **{name: cell[name] for name in cell if name != "verdict"}})


def outcome(plain: Mapping[str, Any]) -> Outcome:
    """The outcome that a cell tells whose verdict's fields stand among its own."""
    seen = plain.get("counterexample")
    return Outcome(
        claim=str(plain["claim"]),
        backend=str(plain["backend"]),
        dtype=str(plain["dtype"]),
        kind=Kind(plain["kind"]),
        rival=str(plain.get("rival", "")),
        found=str(plain.get("found", "")),
        words=str(plain.get("words", "")),
        expected=bool(plain["expected"]),
        declared=bool(plain.get("declared")),
        reason=str(plain.get("reason", "")),
        curves={str(name): tuple(map(float, values)) for name, values in (plain.get("curves") or {}).items()},
        cases=int(plain.get("cases", 0)),
        worst={str(name): float(ratio) for name, ratio in (plain.get("worst") or {}).items()},
        margins=tuple((float(spread), float(ratio)) for spread, ratio in plain.get("margins") or ()),
        counterexample=_counterexample(seen) if seen else None,
    )


def _counterexample(plain: Mapping[str, Any]) -> Counterexample:
    return Counterexample(
        case=str(plain["case"]),
        experiment=str(plain.get("experiment", "")),
        quantity=str(plain.get("quantity", "")),
        index=tuple(map(int, plain.get("index", ()))),
        got=float(plain.get("got", 0)),
        expected=float(plain.get("expected", 0)),
        bound=float(plain.get("bound", 0)),
    )
