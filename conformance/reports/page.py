"""The claims page: every claim with its Chinese, formula, rivals, check and verdicts, as Markdown and as HTML."""

import ast
import importlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from latex2mathml.converter import convert
from markupsafe import Markup

from normspec import __version__
from normspec.conformance.claims.chinese import CHINESE
from normspec.conformance.claims.claims import CLAIMS, Claim
from normspec.conformance.claims.errata import ERRATA, Erratum
from normspec.conformance.claims.formulas import FORMULAS, MISTAKES, of_rival
from normspec.conformance.reports.outcomes import Outcome, Row, Run, told_apart
from normspec.conformance.reports.words import DECLARED, INTRODUCTION, NOTATION, TOPICS, VERDICTS, Words

HERE = Path(__file__).resolve().parent
CHECKS = HERE.parent
"""The folder of the checks."""
ROOT = CHECKS.parent
"""The checkout, or what holds an installed copy."""


@dataclass(frozen=True)
class Check:
    """Where the check of a claim is."""

    file: str
    """Relative to the checkout."""
    line: int
    function: str


@dataclass(frozen=True)
class RivalView:
    """A rival as the page shows it: with a formula, or with a sentence."""

    name: str
    formula: str
    sentence: str


@dataclass(frozen=True)
class ClaimView:
    """A claim as the page shows it."""

    claim: Claim
    chinese: str
    formula: str
    rivals: tuple[RivalView, ...]
    check: Check
    link: str
    """To the check; "" if there is nothing to link to."""
    errata: tuple[Erratum, ...]
    rows: tuple[Row, ...]
    marks: tuple[tuple[str, Outcome | None], ...]
    """For the table of contents: the verdict of every backend, if there is one, by its title."""

    @property
    def curves(self) -> list[Row]:
        """The rows with something to draw."""
        return [row for row in self.rows if row.outcome.curves]


@cache
def checks() -> Mapping[str, Check]:
    """The check of every claim, by the claim's id, found in the source of the suite's tests."""
    found = {}
    for path in sorted(CHECKS.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                for claim in filter(None, map(_claim_of, node.decorator_list)):
                    found[claim] = Check(f"{CHECKS.name}/{path.name}", node.lineno, node.name)
    return found


def _claim_of(decorator: ast.expr) -> str:
    """The claim that `@pytest.mark.claim(...)` names; "" for another decorator."""
    match decorator:
        case ast.Call(func=ast.Attribute(attr="claim"), args=[ast.Constant(value=str(claim))]):
            return claim
    return ""


def markdown(runs: Sequence[Run], *, base: str | None = "") -> str:
    """The page in Markdown, with formulas as GitHub reads them. `base` goes before checks in links; None: no links."""
    return _rendered("claims.md.jinja", runs, base)


def html(runs: Sequence[Run], *, base: str | None = "") -> str:
    """The page in HTML: one file without scripts, which loads nothing."""
    return _rendered("claims.html.jinja", runs, base)


def base_for(page: Path | None) -> str | None:
    """What a page written there puts before a path in the checkout; None in an installed copy, which is in none.

    A page that is written outside of the checkout is taken for one that will lie in its folder.
    """
    if not (ROOT / "pyproject.toml").is_file():
        return None
    folder = page.resolve().parent if page else ROOT
    if not folder.is_relative_to(ROOT) or folder == ROOT:
        return ""
    return Path(os.path.relpath(ROOT, folder)).as_posix() + "/"


def _rendered(template: str, runs: Sequence[Run], base: str | None) -> str:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape="html" in template,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(mathml=mathml, plain=_plain, svg=_svg)
    runs = told_apart(runs)
    topics: dict[str, list[ClaimView]] = {}
    for claim in CLAIMS.values():
        topics.setdefault(claim.id.partition(".")[0], []).append(_view(claim, runs, base))
    return environment.get_template(template).render(
        version=__version__,
        introduction=INTRODUCTION,
        verdicts=VERDICTS,
        declared=DECLARED,
        notation=NOTATION,
        errata=ERRATA,
        signs=_signs(runs),
        topics=[(name, TOPICS.get(name, Words(name, name)), views) for name, views in topics.items()],
        runs=runs,
    )


def _signs(runs: Sequence[Run]) -> Words:
    """What the signs in the table of contents stand for."""
    titles = ", ".join(title for run in runs for title in run.titles.values())
    return Words(
        f"The signs beside a claim are the verdicts on {titles}, in this order; a dot: not run.",
        f"条目旁的符号依次为以下后端的判定：{titles}；圆点表示未运行。",
    )


def _view(claim: Claim, runs: Sequence[Run], base: str | None) -> ClaimView:
    check = checks()[claim.id]
    return ClaimView(
        claim=claim,
        chinese=CHINESE.get(claim.id, ""),
        formula=FORMULAS.get(claim.id, ""),
        rivals=tuple(RivalView(r.name, of_rival(claim, r), MISTAKES.get(r.name, "")) for r in claim.rivals),
        check=check,
        link="" if base is None else f"{base}{check.file}#L{check.line}",
        errata=tuple(e for e in ERRATA if claim.id in e.claims),
        rows=tuple(row for run in runs for row in run.rows(claim.id)),
        marks=tuple(mark for run in runs for mark in run.worst(claim.id)),
    )


# -- filters ----------------------------------------------------------------------------------------------------------


def mathml(latex: str) -> Markup:
    """A formula in MathML; parts side by side are several, so that they can stand below each other."""
    *first, last = latex.split(r", \quad ")
    return Markup(" ").join(Markup(convert(part)) for part in (*(f"{part}," for part in first), last))


def _plain(text: str) -> str:
    """Text that Markdown takes for nothing else."""
    return re.sub(r"([\\`*_<|$])", r"\\\1", " ".join(text.split()))


def _svg(curves: Mapping[str, Sequence[float]], title: str) -> Markup:
    """Curves as a drawing; nothing in a version of the suite that cannot draw."""
    try:
        drawn = importlib.import_module("normspec.conformance.reports.curves").drawn
    except ModuleNotFoundError:
        return Markup("")
    return Markup(drawn(title, curves))
