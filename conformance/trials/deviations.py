"""Known deviations: what an adapter's author declares, and where it is read.

They stand in a TOML file beside the adapter, `my_norm.toml` beside `my_norm.py`. A table is one cause, with the claims
that it breaks and the rival of each:

    [[deviation]]
    reason = "the variance that normalizes is tracked as it is"
    link = "https://example.org/my_norm"  # where the framework documents it; "undocumented" if absent
    versions = ">=2.0"                    # the framework's versions, as PEP 440 specifiers; all if absent
    packages = { numpy = "<2" }           # versions of other packages that it takes; any if absent
    dtypes = ["float64", "float32"]       # all if absent
    adapters = ["my-norm", "MyFastNorm"]  # names or classes of adapters; all adapters of the file if absent
    claims = [
        { claim = "running.sample-variance", rival = "population variance, divisor m" },
        { claim = "precision.within-bound", rival = "fails", dtypes = ["float64"] },
    ]

A claim may have `versions`, `packages`, `dtypes` and `adapters` of its own, which replace those of its table. Where
several claims of a file fit, the first one counts. An adapter may also declare in its code, as `backends/contract.py`
says; that comes before the file.
"""

import difflib
import importlib.metadata
import inspect
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from normspec.conformance.cases.arithmetic import DTYPES, GRADE_NAMES
from normspec.conformance.claims.claims import CLAIMS

IN_CODE = ("claim", "rival", "versions", "reason", "link")
"""The keys of a deviation that is declared in code; all are required, and `dtypes` may be given beside them."""
VERDICTS = ("fails", "crashed", "hung", "inconclusive")
"""What stands for a rival where a backend follows none."""
_RIVALS = {rival.name for claim in CLAIMS.values() for rival in claim.rivals} | GRADE_NAMES


class BadDeclaration(Exception):
    """A declaration that cannot be read; the message is one sentence for its author."""


@dataclass(frozen=True)
class Deviation:
    """A declared deviation, see `backends.contract.Deviation`."""

    claim: str
    rival: str
    versions: str
    reason: str
    link: str
    dtypes: tuple[str, ...] = DTYPES

    def applies(self, version: str) -> bool:
        """Whether it is about this version of the framework; a version that cannot be read is taken for any."""
        try:
            return not self.versions or _within(self.versions, version)
        except InvalidVersion:
            return True


def dtypes_of(given: Any) -> tuple[str, ...]:
    """The dtypes that a value names; none if it is no list of some that the suite knows."""
    names = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else ()
    return names if all(name in DTYPES for name in names) else ()


def _are_versions(given: Any) -> bool:
    try:
        SpecifierSet(given)
    except (InvalidSpecifier, TypeError, AttributeError):
        return False
    return True


def _within(versions: str, version: str) -> bool:
    return SpecifierSet(versions).contains(Version(version), prereleases=True)


def _meant(given: str, known: Iterable[str]) -> str:
    """A question, if something known is spelled like what was given."""
    close = difflib.get_close_matches(given, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


# -- in the adapter's code --------------------------------------------------------------------------------------------


def in_code(spec: str, declared: Any) -> Deviation:
    """One of the deviations that the adapter called `spec` declares in its code. Raises BadDeclaration."""
    if not isinstance(declared, Mapping):
        raise BadDeclaration(f"{spec}: a declared deviation is {declared!r}; expected a dict of {', '.join(IN_CODE)}.")
    if missing := [key for key in IN_CODE if key not in declared]:
        raise BadDeclaration(
            f"{spec}: a declared deviation lacks {', '.join(missing)}; all of {', '.join(IN_CODE)} are required."
        )
    if unknown := [str(key) for key in declared if key not in (*IN_CODE, "dtypes")]:
        raise BadDeclaration(
            f"{spec}: a declared deviation has {', '.join(unknown)}; known are {', '.join(IN_CODE)} and dtypes."
        )
    if declared["claim"] not in CLAIMS:
        meant = _meant(str(declared["claim"]), CLAIMS) or "."
        raise BadDeclaration(f"{spec}: a deviation is declared for {declared['claim']!r}, which is no claim{meant}")
    if not _are_versions(declared["versions"]):
        raise BadDeclaration(
            f"{spec}: versions of a declared deviation is {declared['versions']!r}; expected specifiers as '>=2.0,<3', "
            "or '' for all."
        )
    given = declared.get("dtypes", DTYPES)
    if not (dtypes := dtypes_of(given)):
        raise BadDeclaration(
            f"{spec}: dtypes of a declared deviation is {given!r}; expected some of {', '.join(DTYPES)}."
        )
    return Deviation(**{key: str(declared[key]) for key in IN_CODE}, dtypes=dtypes)


# -- in a file beside it ----------------------------------------------------------------------------------------------


def in_file(adapter: Any) -> list[Deviation]:
    """What the file beside an adapter declares for it. Raises BadDeclaration, also for what is about other adapters.

    A class without a file of its own has those of the nearest class that it derives from, unless it has `deviations`
    in its code.
    """
    if isinstance(adapter, ModuleType):
        path = _beside(adapter)
        return _of(adapter, adapter, path) if path else []
    for kind in (adapter if isinstance(adapter, type) else type(adapter)).__mro__:
        module = sys.modules.get(kind.__module__)
        if module and (path := _beside(module)):
            return _of(adapter, module, path, kind)
        if "deviations" in vars(kind):
            break
    return []


def _beside(module: ModuleType) -> Path | None:
    """The file beside a module, if there is one."""
    source = getattr(module, "__file__", None)
    path = Path(source).with_suffix(".toml") if source else None
    return path if path and path.is_file() else None


def _of(adapter: Any, module: ModuleType, path: Path, kind: type | None = None) -> list[Deviation]:
    """The deviations of `adapter`, or of its class `kind`, which `module` holds, out of the file beside it."""
    named = (name for name, value in vars(module).items() if value is adapter or value is kind)
    own = {kind.__name__ if kind else path.stem, *named, *_name(adapter), *_name(kind)}
    held = {name: value for name, value in vars(module).items() if _looks_held(value, module)}
    declared = read(path, sorted({*own, *held, *chain.from_iterable(map(_name, held.values()))}))
    return [each.deviation for each in declared if (not each.adapters or own & {*each.adapters}) and each.installed()]


def _looks_held(value: Any, module: ModuleType) -> bool:
    """Whether a value looks like an adapter of the module's own."""
    kind = value if inspect.isclass(value) else type(value)
    return kind.__module__ == module.__name__ and all(hasattr(value, name) for name in ("train", "evaluate"))


def _name(adapter: Any) -> list[str]:
    """The name that an adapter gives itself, if it does."""
    name = getattr(adapter, "name", None)
    return [name] if isinstance(name, str) else []


class Declared(NamedTuple):
    """A deviation as a file declares it."""

    deviation: Deviation
    adapters: tuple[str, ...]
    """The names of those that it is about; all of the file, if there are none."""
    packages: Mapping[str, str]
    """Versions of other packages, as specifiers, without which it does not show."""

    def installed(self) -> bool:
        """Whether these packages are installed here in these versions."""
        try:
            return all(_within(which, importlib.metadata.version(name)) for name, which in self.packages.items())
        except importlib.metadata.PackageNotFoundError:
            return False

    def covers(self, other: "Declared") -> str:
        """The dtype in which another declaration can never count beside this one, which comes first; "" for none."""
        one, two = self.deviation, other.deviation
        adapters = not self.adapters or not other.adapters or {*self.adapters} & {*other.adapters}
        versions = one.versions in ("", two.versions) and self.packages in ({}, other.packages)
        if one.claim != two.claim or not adapters or not versions:
            return ""
        return next((dtype for dtype in two.dtypes if dtype in one.dtypes), "")


Place = tuple[str | int, ...]
"""The keys and positions that lead to a value."""


class _Wrong(Exception):
    """What is wrong in a file, in words, and where; `first` is the place of what comes before it, if that matters."""

    def __init__(self, place: Place, words: str, first: Place | None = None) -> None:
        super().__init__(words)
        self.place, self.first = place, first


def read(path: Path, adapters: Sequence[str]) -> list[Declared]:
    """All that a file declares; `adapters` are the names that it may use. Raises BadDeclaration, with the line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BadDeclaration(f"{path}, line {line}: this is not UTF-8; save the file as UTF-8.") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        line = int(place[1] or 0) if place else 0
        words = str(error)[: place.start()] if place else str(error)
        words = "a key is given twice" if "overwrite" in words else words[:1].lower() + words[1:]
        where = f" at column {place[2]}" if place and line else " at the end"
        line = line or len(text.splitlines())
        raise BadDeclaration(
            f"{path}, line {line}: this is not TOML: {words}{where}; correct the line, see https://toml.io."
        ) from None
    try:
        return _declared(document, adapters)
    except _Wrong as wrong:
        counts = f" Line {_line(text, wrong.first)} comes first and counts." if wrong.first else ""
        raise BadDeclaration(f"{path}, line {_line(text, wrong.place)}: {wrong}{counts}") from None


def _line(text: str, place: Place) -> int:
    """The line on which a place begins: what is above it, as TOML, has no such place yet."""
    lines, begins = text.split("\n"), 1
    for end in range(1, len(lines) + 1):
        for closed in ("", "]"):  # a list of several lines counts as far as it goes
            try:
                inside: Any = tomllib.loads("\n".join((*lines[:end], closed)))
            except tomllib.TOMLDecodeError:
                continue
            try:
                for key in place:
                    inside = inside[key]
            except LookupError:
                begins = end + 1
                break
            return begins
    return begins


def _sentence(given: Any) -> bool:
    return isinstance(given, str) and bool(given.strip())


def _texts(given: Any) -> bool:
    return isinstance(given, list) and bool(given) and all(isinstance(each, str) for each in given)


def _specifiers(given: Any) -> bool:
    return isinstance(given, dict) and all(isinstance(v, str) and _are_versions(v) for v in given.values())


Test = tuple[Callable[[Any], bool], str]
"""What a value must pass, and in words what was expected where it does not."""

_NARROWS: Mapping[str, Test] = {
    "versions": (
        lambda given: isinstance(given, str) and _are_versions(given),
        "specifiers as '>=2.0,<3'; leave it out for all versions",
    ),
    "packages": (_specifiers, "packages and specifiers, as { numpy = '<2' }"),
    "dtypes": (
        lambda given: _texts(given) and bool(dtypes_of(given)),
        f"a list of some of {', '.join(DTYPES)}; leave it out for all",
    ),
    "adapters": (_texts, "a list of names of adapters; leave it out for all of the file"),
}
"""The keys that a table may have, and each of its claims."""
_OF_TABLE: Mapping[str, Test] = {
    "reason": (_sentence, "a sentence that says why, in quotes"),
    "claims": (
        lambda given: isinstance(given, list) and bool(given),
        'a list as [{ claim = "running.update", rival = "updated twice" }]',
    ),
    "link": (_sentence, "an address in quotes; leave it out for 'undocumented'"),
    **_NARROWS,
}
_OF_CLAIM: Mapping[str, Test] = {
    "claim": (_sentence, "the name of a claim in quotes"),
    "rival": (_sentence, "the name of a rival in quotes"),
    **_NARROWS,
}


def _declared(document: Mapping[str, Any], adapters: Sequence[str]) -> list[Declared]:
    """What a document declares. Raises _Wrong."""
    for key in document:
        if key != "deviation":
            meant = _meant(key, ["deviation"]) or "."
            raise _Wrong((key,), f"{key} is unknown; expected tables under the header [[deviation]]{meant}")
    tables = document.get("deviation", [])
    if not isinstance(tables, list):
        raise _Wrong(("deviation",), "deviation is one table; write its header as [[deviation]], in double brackets.")
    found: list[tuple[Place, Declared]] = []
    for number, table in enumerate(tables):
        here: Place = ("deviation", number)
        _look_at(table, "a deviation", here, _OF_TABLE, ("reason", "claims"), adapters)
        for position, one in enumerate(table["claims"]):
            place = (*here, "claims", position)
            _look_at(one, "a claim of a deviation", place, _OF_CLAIM, ("claim", "rival"), adapters)
            _look_at_names(one["claim"], one["rival"], place)
            made = _made({**table, **one})
            for before, earlier in found:
                if dtype := earlier.covers(made):
                    words = (
                        f"{one['claim']} is declared again for {dtype}; remove it, or give it other dtypes or versions."
                    )
                    raise _Wrong(place, words, before)
            found.append((place, made))
    return [made for _, made in found]


def _made(keys: Mapping[str, Any]) -> Declared:
    """The deviation of a claim, from its own keys and those of its table."""
    deviation = Deviation(
        claim=keys["claim"],
        rival=keys["rival"],
        versions=keys.get("versions", ""),
        reason=keys["reason"],
        link=keys.get("link", "undocumented"),
        dtypes=tuple(keys.get("dtypes", DTYPES)),
    )
    return Declared(deviation, tuple(keys.get("adapters", ())), keys.get("packages", {}))


def _look_at(
    table: Any, what: str, here: Place, tests: Mapping[str, Test], required: Sequence[str], adapters: Sequence[str]
) -> None:
    """Raise _Wrong unless a table has the keys that are required, and none but those with a test, which it passes."""
    if not isinstance(table, dict):
        raise _Wrong(here, f"{what} is {table!r}; expected a table with {', '.join(tests)}.")
    for key in table:
        if key not in tests:
            raise _Wrong((*here, key), f"{what} has no {key}; expected {', '.join(tests)}{_meant(key, tests) or '.'}")
    for key in required:
        if key not in table:
            raise _Wrong(here, f"{what} lacks {key}; add {tests[key][1]}.")
    for key, value in table.items():
        fits, expected = tests[key]
        if not fits(value):
            raise _Wrong((*here, key), f"{key} is {value!r}; expected {expected}.")
    for name in table.get("adapters", ()):
        if name not in adapters:
            expected = f"some of {', '.join(adapters)}{_meant(name, adapters) or '.'}"
            raise _Wrong((*here, "adapters"), f"{name!r} is no adapter of the file beside; expected {expected}")


def _look_at_names(claim: str, rival: str, place: Place) -> None:
    """Raise _Wrong for what is no claim, and for what is no rival of it."""
    if claim not in CLAIMS:
        raise _Wrong(place, f"{claim!r} is no claim{_meant(claim, CLAIMS) or '; normspec claims lists them.'}")
    if not _is_rival(claim, rival):
        own = [*(r.name for r in CLAIMS[claim].rivals), *VERDICTS]
        meant = _meant(rival, own) or _meant(rival, sorted(_RIVALS)) or "."
        expected = f"the name that the matrix prints, or {', '.join(VERDICTS)}"
        raise _Wrong(place, f"{rival!r} is no rival of {claim}; expected {expected}{meant}")


def _is_rival(claim: str, name: str) -> bool:
    """Whether verdicts on a claim may bear a name: a rival's, of other claims too, a verdict's, or a value found."""
    if name in VERDICTS:
        return True
    if not CLAIMS[claim].rivals:  # the claim is about a value
        return bool(re.fullmatch(r"-?\d+(\.\d+)?(e[-+]\d+)?", name))
    return _joined(name)


def _joined(name: str) -> bool:
    """Whether a name is that of a rival, or several joined as verdicts join them."""
    if name in _RIVALS:
        return True
    cuts = re.finditer(" and | or ", name)
    return any(name[: cut.start()] in _RIVALS and _joined(name[cut.end() :]) for cut in cuts)
