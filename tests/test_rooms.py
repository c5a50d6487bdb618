"""Data flows one way: a room imports only from rooms above it, and the reference and the adapters from none."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("claims", "cases", "predictions", "trials", "verdicts", "conventions", "reports")
"""In the order in which data flows. Behind them come the modules that stand in none: the checks, and the command."""
OF_ALL = ("normspec.__version__", "normspec.backends.SHIPPED", "normspec.reference")
"""What any room may import beside: the version, the list of adapters, and the formulas."""


def imported(source: str) -> Iterator[str]:
    """The dotted names that a module imports, within functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def modules(folder: str) -> list[Path]:
    found = sorted(path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py"))
    assert found
    return found


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def astray(path: Path, source: str) -> list[str]:
    """What a module of `conformance` imports from rooms that it should know nothing of."""
    room = path.parts[1] if len(path.parts) > 2 else ""
    known = ROOMS[: ROOMS.index(room) + 1] if room else ROOMS
    allowed = tuple(f"normspec.conformance.{name}" for name in known)
    ours = (name for name in imported(source) if within(name, ("normspec",)))
    return [name for name in ours if not within(name, (*allowed, *OF_ALL))]


def test_the_rooms_are_those_on_the_list() -> None:
    found = {path.parts[1] for path in modules("conformance") if len(path.parts) > 2}
    assert found == set(ROOMS)


@pytest.mark.parametrize("path", modules("conformance"), ids=str)
def test_a_room_knows_only_those_above_it(path: Path) -> None:
    assert not astray(path, (ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("path", "line", "allowed"),
    [
        ("conformance/cases/cases.py", "from normspec.conformance.claims.claims import CLAIMS", True),
        ("conformance/cases/cases.py", "from normspec.conformance.predictions import bounds", False),
        ("conformance/cases/cases.py", "def f():\n    import normspec.conformance.reports.page", False),
        ("conformance/reports/page.py", "from normspec.conformance import command", False),
        ("conformance/reports/page.py", "from normspec.conformance.verdicts.grade import grade", True),
        ("conformance/reports/page.py", "from normspec.backends import torch", False),
        ("conformance/test_affine.py", "from normspec.conformance.reports import page", True),
        ("conformance/test_affine.py", "from normspec.conformance.test_running import x", False),
        ("conformance/claims/claims.py", "import normspec", False),
    ],
)
def test_what_goes_astray_is_found(path: str, line: str, allowed: bool) -> None:
    assert (not astray(Path(path), line)) == allowed


@pytest.mark.parametrize("path", modules("reference"), ids=str)
def test_the_reference_needs_numpy_alone(path: Path) -> None:
    """And the article's formulas nothing of the rest."""
    names = list(imported((ROOT / path).read_text(encoding="utf-8")))
    others = () if path.name == "article.py" else ("normspec.reference",)
    assert not [name for name in names if not within(name, ("numpy", *sys.stdlib_module_names, *others))]


@pytest.mark.parametrize("path", modules("backends"), ids=str)
def test_an_adapter_knows_nothing_of_the_suite(path: Path) -> None:
    assert not [n for n in imported((ROOT / path).read_text(encoding="utf-8")) if within(n, ("normspec.conformance",))]


MAP = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_the_map_names_every_room_in_order() -> None:
    assert tuple(re.findall(r"^\| \[`conformance/(\w+)/`\]", MAP, re.MULTILINE)) == ROOMS


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", MAP))))
def test_the_map_leads_somewhere(target: str) -> None:
    assert (ROOT / target).is_file()


def test_what_the_map_names_is_in_the_file_beside_it() -> None:
    found = re.findall(r"\[`([\w/.]+)`\]\([^)]+\), `(\w+)`", MAP)
    assert len(found) >= 5
    for path, name in found:
        assert re.search(rf"^(def )?{name}\b", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), (path, name)
