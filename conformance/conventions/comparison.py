"""Conventions and conversions as people and programs read them: tables, numbered lines, Python, JSON."""

import io
import json
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from normspec import __version__
from normspec.conformance.cases.arithmetic import SHORT
from normspec.conformance.conventions.conventions import Conduct, Conventions, Fact, Finding, shared
from normspec.conformance.conventions.conversion import Conversion
from normspec.conformance.trials.adapters import Backend
from normspec.conformance.verdicts.laboratory import Laboratory
from normspec.reference import ARTICLE, Rules

SCHEMA = 2
CONDUCT = ("training", "tracking", "evaluation")
Conducts = Mapping[tuple[str, int], Conduct]
"""What a backend follows, by dtype and number of axes of x."""
M = "m is the number of values of one channel in a batch: N times the spatial size."


@dataclass(frozen=True)
class Comparison:
    """What was found about one backend or several, and the conversions between the first and each of the others."""

    found: Sequence[Conventions]
    conversions: Sequence[Conversion] = ()
    not_run: dict[str, str] = field(default_factory=dict)

    @property
    def dtypes(self) -> list[str]:
        """The dtypes that all of them offer; where they share none, all that any of them offers."""
        return list(shared(self.found)) or list(dict.fromkeys(dtype for one in self.found for dtype in one.dtypes))

    @property
    def topics(self) -> list[str]:
        """All topics, in the order in which they are told."""
        told = dict.fromkeys(fact.topic for one in self.found for fact in one.facts)
        return [topic for topic in told if any(one.fact(topic).values(self.dtypes) for one in self.found)]

    def differs(self, topic: str) -> bool:
        """Whether the backends differ in a topic, in the dtypes and ranks that they share."""
        facts = [one.fact(topic) for one in self.found]
        if not list(shared(self.found)):
            return len({told(fact) for fact in facts}) > 1
        if any(not fact.values(self.dtypes) for fact in facts):
            return True
        values = [{(f.dtype, f.ndim): f.value for f in fact.findings if f.dtype in self.dtypes} for fact in facts]
        return any(values[0].get(place, value) != value for other in values[1:] for place, value in other.items())

    # -- for people ---------------------------------------------------------------------------------------------------

    def terminal(self, width: int, *, color: bool, verbose: bool = False) -> str:
        """Everything as text of `width` columns."""
        parts = [self._title(), self._table(width, color=color, verbose=verbose)]
        first = self.found[0].backend.name
        parts += [conversion_text(c, width, python=verbose or c.source == first) for c in self.conversions]
        if any("m" in f.options for c in self.conversions if shown(c) for f in c.functions):
            parts.append(_wrapped(M, width))
        parts += [_wrapped(f"{name} was not run: {reason}", width) for name, reason in self.not_run.items()]
        return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"

    def _title(self) -> str:
        names = ", ".join(one.backend.title for one in self.found)
        if not list(shared(self.found)):
            return f"{names}: found from behaviour alone. They have no dtype in common, so nothing can be converted."
        return f"{names}: found from behaviour alone, in {', '.join(self.dtypes)}"

    def _table(self, width: int, *, color: bool, verbose: bool) -> str:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        several = len(self.found) > 1
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=several)
        table.add_column("", no_wrap=True)
        for one in self.found:
            table.add_column(one.backend.name, overflow="fold", ratio=1 if several else None)
        differing = [topic for topic in self.topics if several and self.differs(topic)]
        alike = [topic for topic in self.topics if topic not in differing]
        for topic in [*differing, *(alike if verbose or not several else ())]:
            words = [told(one.fact(topic), self.dtypes if several else None) for one in self.found]
            if verbose:
                words = [_with_how(w, one.fact(topic)) for w, one in zip(words, self.found, strict=True)]
            marked = topic in differing
            style = "yellow" if marked else ""
            table.add_row(Text(f"* {topic}" if marked else topic, style=style), *(Text(w, style=style) for w in words))
        file = io.StringIO()
        Console(file=file, width=width, force_terminal=color, highlight=False, no_color=not color).print(table)
        lines = "\n".join(line.rstrip() for line in file.getvalue().splitlines())
        if several and alike and not verbose:
            lines += "\n\n" + _wrapped(f"Alike: {', '.join(alike)}. -v shows them.", width)
        return lines if differing or not several else lines.lstrip("\n")

    # -- for programs -------------------------------------------------------------------------------------------------

    def plain(self, laboratory: Laboratory) -> dict[str, Any]:
        """As `conventions.schema.json` describes it."""
        return {
            "schema": SCHEMA,
            "normspec": __version__,
            "profile": laboratory.profile.name,
            "seed": laboratory.seed,
            "backends": [_plain_conventions(one) for one in self.found],
            "not_run": self.not_run,
            "differences": [t for t in self.topics if self.differs(t)] if len(self.found) > 1 else [],
            "conversions": [_plain_conversion(conversion) for conversion in self.conversions],
        }

    def json(self, laboratory: Laboratory) -> str:
        """The same as text."""
        return json.dumps(self.plain(laboratory), indent=1, allow_nan=False) + "\n"


def told(fact: Fact, dtypes: Iterable[str] | None = None) -> str:
    """A fact in a few lines: what was found, with the dtypes and ranks where it does not hold for all."""
    groups = fact.values(dtypes)
    every = [finding for _, group in groups for finding in group]
    return "\n".join(f"{value}{_where(group, every)}" for value, group in groups) or "-"


def _where(group: Sequence[Finding], every: Sequence[Finding]) -> str:
    """The dtypes and ranks of a group, as far as they are not all."""
    if len(group) == len(every):
        return ""
    dtypes, ranks = (list(dict.fromkeys(getattr(f, name) for f in group)) for name in ("dtype", "ndim"))
    if len(group) < len(dtypes) * len(ranks):  # no rectangle: one by one
        return f" [{', '.join(f'{SHORT[f.dtype]} {f.ndim}-D' for f in group)}]"
    words = []
    if set(dtypes) != {f.dtype for f in every}:
        words.append(" ".join(SHORT[dtype] for dtype in dtypes))
    if set(ranks) != {f.ndim for f in every}:
        words.append(" ".join(f"{ndim}-D" for ndim in ranks))
    return f" [{', '.join(words)}]"


def _with_how(words: str, fact: Fact) -> str:
    hows = list(dict.fromkeys(f.how for f in fact.findings if f.how))
    return f"{words}\n  ({hows[0]})" if hows else words


def shown(conversion: Conversion) -> bool:
    """Whether a conversion may be printed: only what was executed and held."""
    return conversion.verification.holds


def conversion_text(conversion: Conversion, width: int, *, python: bool) -> str:
    """A conversion as numbered lines, and as Python; what does not verify is said, not shown."""
    head = f"{conversion.source} -> {conversion.target}"
    obstacles = [_wrapped(f"No conversion of {obstacle}.", width, "  ") for obstacle in conversion.obstacles]
    if conversion.training is None and conversion.evaluation is None:
        return "\n".join([f"{head}: no conversion in {', '.join(conversion.verification.dtypes)}", *obstacles])
    text = f"{head}: {conversion.verification.words}"
    if not shown(conversion):
        words = f"{head}: what follows from the rules {conversion.verification.words}. It is not printed."
        return "\n".join([_wrapped(words, width), *obstacles])
    lines, said = [_wrapped(text, width)], ("", "")
    for number, (occasion, step) in enumerate(conversion.steps, 1):
        if occasion and occasion != said[0]:
            lines.append(_wrapped(f"{occasion}:", width, "  "))
        lines.append(f"  {number}. {step.line}")
        if step.why and step.why != said[1]:
            lines.append(_wrapped(step.why, width, "     "))
        said = (occasion, step.why)
    if not conversion.functions and not obstacles:
        lines.append("  Nothing to convert: the same numbers do the same.")
    elif conversion.evaluation is not None and not conversion.evaluation.steps and conversion.functions:
        lines.append("  Evaluation takes all numbers as they are.")
    if conversion.defaults:
        lines.append(_wrapped(conversion.defaults, width, "  "))
    lines += obstacles
    if python and conversion.snippet:
        lines += ["", textwrap.indent(conversion.snippet, "    ")]
    return "\n".join(lines)


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )


def _plain_conventions(one: Conventions) -> dict[str, Any]:
    return {
        "name": one.backend.name,
        "version": one.backend.version,
        "dtypes": list(one.dtypes),
        "default_eps": one.eps,
        "default_momentum": one.momentum,
        "initial_variance": one.start,
        "conduct": [
            {"dtype": dtype, "axes": ndim, **{at: _plain_rules(getattr(conduct, at)) for at in CONDUCT}}
            for (dtype, ndim), conduct in one.conduct.items()
        ],
        "facts": [
            {
                "topic": fact.topic,
                "findings": [
                    {
                        "value": f.value,
                        "status": f.status,
                        "dtype": f.dtype,
                        "axes": f.ndim or None,
                        "how": f.how,
                    }
                    for f in fact.findings
                ],
            }
            for fact in one.facts
        ],
    }


def _plain_rules(rules: Rules | None) -> dict[str, Any] | None:
    """The choices that are not the article's."""
    return None if rules is None else {k: v for k, v in asdict(rules).items() if v != getattr(ARTICLE, k)}


def read_conventions(plain: Mapping[str, Any], backend: Callable[[Conducts], Backend]) -> Conventions:
    """The conventions that `Comparison.plain` told of one backend; `backend` makes what is to stand for it."""
    conduct = {
        (str(place["dtype"]), int(place["axes"])): Conduct(
            **{at: None if place[at] is None else Rules(**place[at]) for at in CONDUCT}
        )
        for place in plain["conduct"]
    }
    facts = [
        Fact(
            fact["topic"],
            tuple(Finding(f["value"], f["status"], f["how"], f["dtype"], f["axes"] or 0) for f in fact["findings"]),
        )
        for fact in plain["facts"]
    ]
    return Conventions(
        backend(conduct),
        tuple(plain["dtypes"]),
        facts,
        conduct,
        plain["default_eps"],
        plain["default_momentum"],
        plain["initial_variance"],
    )


def _plain_conversion(conversion: Conversion) -> dict[str, Any]:
    verification, printed = conversion.verification, shown(conversion)
    return {
        "from": conversion.source,
        "to": conversion.target,
        "verified": printed,
        "dtypes": list(verification.dtypes),
        "axes": list(verification.ranks),
        "cases": verification.cases,
        "worst": verification.worst if np.isfinite(verification.worst) else "inf",
        "counterexample": verification.counterexample,
        "obstacles": list(conversion.obstacles),
        "defaults": conversion.defaults if printed else "",
        "steps": [{"when": w, "line": s.line, "why": s.why} for w, s in conversion.steps] if printed else [],
        "python": conversion.snippet if printed else "",
    }
