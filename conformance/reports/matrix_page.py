"""The merged matrix as a page: one HTML file that needs no other, to be looked at, filtered, compared and printed."""

import json
import math
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from normspec.backends import SHIPPED
from normspec.conformance.cases.arithmetic import DTYPES, SHORT
from normspec.conformance.cases.pools import DEFAULT_SEED
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.claims.formulas import FORMULAS
from normspec.conformance.conventions.comparison import told as told_fact
from normspec.conformance.conventions.conversion import Conversion
from normspec.conformance.reports import pairs, plots, script
from normspec.conformance.reports.curves import NoPlots
from normspec.conformance.reports.merged import Column, Merged
from normspec.conformance.reports.outcomes import Outcome
from normspec.conformance.reports.page import HERE, mathml
from normspec.conformance.reports.words import TOPICS, VERDICTS
from normspec.conformance.verdicts.verdicts import SEVERITY, Counterexample, Kind

_LINK = re.compile(r"\s*\((https?://[^\s()]+(?:\([^\s()]*\)[^\s()]*)*)\)$")


@dataclass(frozen=True)
class CellView:
    """A cell of the table: the gravest verdict of its dtypes, in a sign and a few words."""

    kinds: tuple[str, ...]
    """All that are in it, the shown one first, as classes of the style sheet; "not-run" where there is none."""
    sign: str
    spoken: str
    """The sign in words."""
    words: str
    """What follows the sign: the rival, the value found, or nothing; and the dtypes, if it does not hold in all."""
    also: tuple[tuple[str, str], ...]
    """The signs of the other kinds, and these in words."""
    title: str
    """Everything, for those who point or listen."""
    undeclared: bool
    """Whether some verdict is not as declared."""


def html(found: Merged) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(mathml=mathml)
    topics: dict[str, list[str]] = {}
    for claim in found.claims:
        topics.setdefault(claim.partition(".")[0], []).append(claim)
    return environment.get_template("matrix.html.jinja").render(
        found=found,
        counts=[(kind, VERDICTS[Kind(kind)].sign, n) for kind, n in found.tally().items()],
        verdicts=VERDICTS,
        topics=[(TOPICS[topic].english if topic in TOPICS else topic, topic, ids) for topic, ids in topics.items()],
        claims=CLAIMS,
        formulas=FORMULAS,
        cell=lambda claim, column: cell(found, claim, column),
        dtypes=lambda column: " ".join(SHORT[dtype] for dtype in checked(found, column)),
        platforms=sorted({(c.settings["platform"], c.settings["python"]) for c in found.columns}),
        unexpected=len(found.unexpected),
        conditioning=_plot(lambda: plots.against_conditioning(found)),
        conditioning_table=plots.conditioning_table(found),
        spread=_plot(lambda: plots.by_dtype(found)),
        dtype_table=plots.dtype_table(found),
        data=_embedded(data(found)),
    )


def cell(found: Merged, claim: str, column: Column) -> CellView:
    """What the table shows of a claim and a column."""
    every = sorted(found.at(claim, column.id), key=_gravity)
    if not every:
        return CellView(("not-run",), "\N{MIDDLE DOT}", "not run", "", (), "not run", undeclared=False)
    first = every[0]
    words = {Kind.DEVIATES: first.rival, Kind.CONFORMS: first.found}.get(first.kind, "")
    alike = [o for o in every if (o.kind, o.rival, o.found) == (first.kind, first.rival, first.found)]
    if len(alike) < len(every) and (words or first.kind in _WRONG):
        words = f"{words} {_in(alike)}"
    kinds = dict.fromkeys(o.kind for o in every)
    as_declared = first.declared and first.expected
    return CellView(
        tuple(kind.replace(" ", "-") for kind in kinds),
        VERDICTS[first.kind].sign + ("*" if as_declared else ""),
        f"{first.kind}, as declared" if as_declared else str(first.kind),
        words.strip(),
        tuple((VERDICTS[kind].sign, str(kind)) for kind in kinds if kind != first.kind),
        _title(every),
        undeclared=any(not o.expected for o in every),
    )


_WRONG = (Kind.HUNG, Kind.CRASHED, Kind.FAILS, Kind.DEVIATES)


def _gravity(one: Outcome) -> tuple[bool, int, bool]:
    """What a cell shows first: the gravest verdict; what cannot be decided or had, as is expected, after all others."""
    silent = one.kind in (Kind.INCONCLUSIVE, Kind.NOT_OFFERED) and one.expected
    return silent, SEVERITY[one.kind], one.expected


def _title(every: Sequence[Outcome]) -> str:
    """All verdicts of a cell, with the dtypes each holds for if not for all."""
    groups: dict[str, list[Outcome]] = {}
    for one in every:
        groups.setdefault(one.label + _declaration(one), []).append(one)
    return "; ".join(f"{words} {_in(group)}" if len(groups) > 1 else words for words, group in groups.items())


def _declaration(one: Outcome) -> str:
    return ", not as declared" if not one.expected else ", as declared" if one.declared else ""


def _in(group: Sequence[Outcome]) -> str:
    dtypes = {o.dtype for o in group}
    return f"[{' '.join(SHORT[dtype] for dtype in DTYPES if dtype in dtypes)}]"


def checked(found: Merged, column: Column) -> list[str]:
    """The dtypes in which there are verdicts on a column."""
    seen = {dtype for _, name, dtype in found.outcomes if name == column.id}
    return [dtype for dtype in DTYPES if dtype in seen]


def data(found: Merged) -> dict[str, Any]:
    """What the page's script shows when it is asked: verdicts, scripts, conventions and conversions."""
    numbers = {column.id: i for i, column in enumerate(found.columns)}
    return {
        "columns": [_column(found, column) for column in found.columns],
        "short": SHORT,
        "claims": {
            claim: {"text": CLAIMS[claim].text, "source": CLAIMS[claim].source, "hint": CLAIMS[claim].hint}
            for claim in found.claims
        },
        "cells": {
            f"{claim} {number}": _verdicts(found.at(claim, column))
            for claim in found.claims
            for column, number in numbers.items()
            if found.at(claim, column)
        },
        "scripts": _scripts(found),
        "pairs": [
            {
                "from": [numbers[name] for name in pair.sources],
                "to": [numbers[name] for name in pair.targets],
                "conversions": [_conversion(c) for c in pair.conversions],
            }
            for pair in pairs.pairs(found.columns)
        ],
        "names": [pairs.A, pairs.B],
    }


def _made(column: Column) -> str:
    made = column.settings
    return f"Python {made['python']}, NumPy {made['numpy']}, Hypothesis {made['hypothesis']}, {made['platform']}"


def _column(found: Merged, column: Column) -> dict[str, Any]:
    known = column.conventions
    return {
        "id": column.id,
        "made": _made(column),
        "dtypes": checked(found, column),
        "facts": {
            fact.topic: {dtype: told_fact(fact, [dtype]) for dtype in DTYPES if fact.values([dtype])}
            for fact in (known.facts if known else ())
        },
        "modelled": pairs.dtype_of(known) if known else "",
        "again": _again(column),
        "shipped": column.backend in SHIPPED,
    }


def _again(column: Column) -> str:
    """The command line that runs it again, but for claim and dtypes."""
    words = ["normspec", "--backend", column.backend if column.backend in SHIPPED else "path/to/adapter.py"]
    if column.settings["profile"] != "default":
        words += ["--profile", column.settings["profile"]]
    if column.settings["seed"] != str(DEFAULT_SEED):
        words += ["--seed", column.settings["seed"]]
    return shlex.join(words)


def _verdicts(every: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Those of one cell; to be seen again are the gravest, if it is wrong, and all that are not as declared."""
    first = min(every, key=_gravity)
    again = [not o.expected or (o is first and o.kind in _WRONG) for o in every]
    return [_verdict(o) | ({"again": True} if wanted else {}) for o, wanted in zip(every, again, strict=True)]


def _verdict(one: Outcome) -> dict[str, Any]:
    """What is empty is left out."""
    link = _LINK.search(one.reason)
    seen = one.counterexample
    # Where a rival is followed, the errors are those against the rival.
    worst = {} if one.kind == Kind.DEVIATES else one.worst
    told: dict[str, Any] = {
        "dtype": one.dtype,
        "kind": str(one.kind),
        "label": one.label,
        "words": one.words,
        "reason": _LINK.sub("", one.reason),
        "link": link[1] if link else "",
        "declaration": _declaration(one),
        "cases": one.cases,
        "worst": ", ".join(f"{name} {_number(ratio)}" for name, ratio in worst.items()),
        "case": seen.case if seen else "",
        "seen": _seen(seen) if seen and seen.quantity else "",
    }
    return {name: value for name, value in told.items() if value}


def _seen(worst: Counterexample) -> str:
    """How far the worst element of a case is off, in words."""
    off = abs(worst.got - worst.expected) / worst.bound if worst.bound else math.inf
    far = f": {off:.3g} bounds off" if math.isfinite(off) else ""
    asked = f"expected {_number(worst.expected, 9)} within {_number(worst.bound, 2)}"
    by = f" ({worst.experiment})" if worst.experiment else ""
    return f"{worst.quantity}{list(worst.index)} is {_number(worst.got, 9)}, {asked}{far}{by}"


def _number(value: float, digits: int = 3) -> str:
    return "not a number" if math.isnan(value) else f"{value:.{digits}g}".replace("inf", "infinite")


def _scripts(found: Merged) -> dict[str, Any]:
    """A script for each cell that has one, in blocks: those of one backend share most of them.

    It is that of the gravest verdict which has one.
    """
    blocks: dict[str, int] = {}
    made: dict[str, Any] = {}
    for number, column in enumerate(found.columns):
        for claim in found.claims:
            every = sorted(found.at(claim, column.id), key=_gravity)
            one = next((o for o in every if (claim, o.dtype) in column.scripts), None)
            if one is not None:
                path = column.scripts[claim, one.dtype]
                parts = script.blocks(path.read_text(encoding="utf-8"))
                places = [blocks.setdefault(part, len(blocks)) for part in parts]
                made[f"{claim} {number}"] = [one.dtype, path.name, places]
    return {"blocks": list(blocks), "cells": made}


def _conversion(conversion: Conversion) -> dict[str, Any]:
    verification = conversion.verification
    verified = verification.holds
    return {
        "words": verification.words if verified or verification.counterexample else "",
        "verified": verified,
        "obstacles": list(conversion.obstacles),
        "defaults": conversion.defaults if verified else "",
        "steps": [[when, step.line, step.why] for when, step in conversion.steps] if verified else [],
        "python": conversion.snippet if verified else "",
    }


def _plot(draw: Callable[[], str]) -> Markup:
    """A drawing of ours, which needs no escaping; "" without Matplotlib."""
    try:
        return Markup(draw())
    except NoPlots:
        return Markup("")


def _embedded(told: Any) -> Markup:
    """JSON that no parser of HTML takes for anything else."""
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    for sign, escaped in (("&", "\\u0026"), ("<", "\\u003c"), (">", "\\u003e"), ("\u2028", "\\u2028")):
        text = text.replace(sign, escaped)
    return Markup(text)


def badge(found: Merged) -> str:
    """How many verdicts are as declared, as an SVG in the manner of badges."""
    every = len(found.outcomes)
    good = every - len(found.unexpected)
    left, right = "normspec", f"{good} of {every} as declared"
    wide_left, wide_right = 7 * len(left) + 12, 6.6 * len(right) + 12
    color = "#17692f" if good == every else "#b3202a"
    width = wide_left + wide_right
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="20" role="img" '
        f'aria-label="{left}: {right}"><title>{left}: {right}</title>'
        f'<rect width="{width:.0f}" height="20" rx="3" fill="#444"/>'
        f'<path d="M{wide_left:.0f} 0h{wide_right - 3:.0f}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H{wide_left:.0f}z" '
        f'fill="{color}"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{wide_left / 2:.0f}" y="14">{left}</text>'
        f'<text x="{wide_left + wide_right / 2:.0f}" y="14">{right}</text></g></svg>\n'
    )
