"""The merged matrix as a page: one HTML file that needs no other, to be looked at, filtered, compared and printed."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from normspec.conformance import pairs, plots, script
from normspec.conformance.claims import CLAIMS
from normspec.conformance.curves import NoPlots
from normspec.conformance.formulas import FORMULAS
from normspec.conformance.matrix import SHORT
from normspec.conformance.merged import Column, Merged
from normspec.conformance.outcomes import Outcome
from normspec.conformance.page import HERE, mathml
from normspec.conformance.verdicts import SEVERITY, Kind
from normspec.conformance.words import TOPICS, VERDICTS

_LINK = re.compile(r"\s*\((https?://[^\s()]+(?:\([^\s()]*\)[^\s()]*)*)\)$")


@dataclass(frozen=True)
class CellView:
    """A cell of the table: the gravest verdict of its dtypes, in a sign and a few words."""

    kind: str
    """The kind of verdict, as a class of the style sheet; "not-run" where there is none."""
    sign: str
    words: str
    """What follows the sign: the rival, the value found, or nothing."""
    title: str
    """Everything, for those who point or listen."""
    undeclared: bool


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
    every = found.at(claim, column.id)
    if not every:
        return CellView("not-run", "\N{MIDDLE DOT}", "", "not run", undeclared=False)
    silent = (Kind.INCONCLUSIVE, Kind.NOT_OFFERED)
    first = min(every, key=lambda o: (o.expected, o.kind in silent, SEVERITY[o.kind]))
    words = {Kind.DEVIATES: first.rival, Kind.CONFORMS: first.found}.get(first.kind, "")
    if first.kind not in (Kind.CONFORMS, *silent) and len(every) > 1:
        of_kind = [SHORT[o.dtype] for o in every if (o.kind, o.rival) == (first.kind, first.rival)]
        words = f"{words} [{' '.join(of_kind)}]" if len(of_kind) < len(every) else words
    return CellView(
        str(first.kind).replace(" ", "-"),
        VERDICTS[first.kind].sign + ("*" if first.declared and first.expected else ""),
        words.strip(),
        found.text(claim, column.id),
        undeclared=any(not o.expected for o in every),
    )


def data(found: Merged) -> dict[str, Any]:
    """What the page's script shows when it is asked: verdicts, scripts, conventions and conversions."""
    numbers = {column.id: i for i, column in enumerate(found.columns)}
    return {
        "columns": [
            {"id": c.id, "backend": c.backend, "made": _made(c), "notes": list(c.notes), "facts": c.facts}
            for c in found.columns
        ],
        "claims": {
            claim: {"text": CLAIMS[claim].text, "source": CLAIMS[claim].source, "hint": CLAIMS[claim].hint}
            for claim in found.claims
        },
        "cells": {
            f"{claim} {number}": [_verdict(o) for o in found.at(claim, column)]
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


def _verdict(one: Outcome) -> dict[str, Any]:
    """What is empty is left out."""
    link = _LINK.search(one.reason)
    seen = one.counterexample
    told: dict[str, Any] = {
        "dtype": one.dtype,
        "kind": str(one.kind),
        "label": one.label,
        "words": one.words,
        "reason": _LINK.sub("", one.reason),
        "link": link[1] if link else "",
        "declared": one.declared,
        "undeclared": not one.expected,
        "cases": one.cases,
        "worst": {name: _ratio(ratio) for name, ratio in one.worst.items()},
    }
    if seen is not None:
        off = abs(seen.got - seen.expected) / seen.bound if seen.bound else float("inf")
        told["case"] = seen.case
        told["quantity"] = f"{seen.quantity}{list(seen.index)}" if seen.quantity else ""
        told["seen"] = [f"{seen.got:.9g}", f"{seen.expected:.9g}", f"{seen.bound:.2g}", _ratio(off)]
        told["experiment"] = seen.experiment
    return {name: value for name, value in told.items() if value}


def _ratio(value: float) -> str:
    return f"{value:.3g}"


def _scripts(found: Merged) -> dict[str, Any]:
    """A script for each cell that has one, in blocks: those of one backend share most of them."""
    blocks: dict[str, int] = {}
    made: dict[str, Any] = {}
    for number, column in enumerate(found.columns):
        for (claim, dtype), path in column.scripts.items():
            key = f"{claim} {number}"
            if key not in made and claim in CLAIMS:
                parts = script.blocks(path.read_text(encoding="utf-8"))
                made[key] = [dtype, path.name, [blocks.setdefault(part, len(blocks)) for part in parts]]
    return {"blocks": list(blocks), "cells": made}


def _conversion(conversion: Any) -> dict[str, Any]:
    verified = conversion.verification.holds
    return {
        "words": conversion.verification.words,
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
