"""`normspec`: the suite as a command, from any directory and for an installed copy. It takes pytest's options.

`normspec --backend my_adapter.py -n auto` is `pytest conformance --backend my_adapter.py -n auto` without a checkout.
`normspec conventions A [B]` tells what backends do, and how to convert between them.
`normspec claims [RESULTS.json]` writes what is claimed, in English, Chinese and formulas, with verdicts beside it.
`normspec record DIR A [B]` runs both on A and B and leaves in DIR what a matrix is made of.
`normspec matrix DIR [DIR]` merges the results of many runs, from any machines, and tells what changed since a baseline.
"""

import argparse
import io
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from normspec import __version__
from normspec.conformance.cases.arithmetic import DTYPES
from normspec.conformance.cases.pools import DEFAULT_SEED, PROFILES
from normspec.conformance.trials.adapters import Backend, BadAdapter, Unavailable, open_backend
from normspec.conformance.trials.isolation import TRUSTED, Isolated, Limits
from normspec.conformance.verdicts.laboratory import Laboratory

if TYPE_CHECKING:
    from normspec.conformance.reports.merged import Merged

USAGE = """\
usage: normspec [--backend NAME ...] [options]    check implementations, claim by claim
       normspec conventions NAME [NAME ...]       what they do, from behaviour alone, and how to convert
       normspec claims [RESULTS.json ...]         what is claimed, as a page in Markdown or HTML, with verdicts
       normspec record DIR NAME [NAME ...]        check them, and leave in DIR all that a matrix is made of
       normspec matrix DIR [DIR ...]              merge results of many runs into one matrix, as a page or files
       normspec --version

Each of the words explains itself with `--help`, as in `normspec matrix --help`. The first takes all of pytest's
options:
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite as pytest would, or tell conventions; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = {"conventions": conventions, "claims": claims, "record": record, "matrix": matrix}
    if given[:1] and given[0] in commands:
        return commands[given[0]](given[1:])
    if given == ["--version"]:
        print(f"normspec {__version__}")
        return 0
    if "--help" in given or "-h" in given:
        print(USAGE)
    here = Path(__file__).parent
    if stray := next((w for o, w in pairwise(["", *given]) if _is_stray(o, w, here)), ""):
        print(
            f"normspec: {stray} is no check of the suite. To check a backend, say --backend {stray}.", file=sys.stderr
        )
        return 2
    # The reader's own pytest configuration is about their tests, not about this suite: it is left out.
    own = ["-c", str(here / "normspec.ini"), f"--rootdir={here}", "-p", "no:cacheprovider"]
    placed = [str(here / word) if _is_own(word, here) else word for word in given]
    return int(pytest.main([*own, *placed, *([] if placed != given else [str(here)])]))


def _is_stray(option: str, word: str, here: Path) -> bool:
    """Whether a word is a Python file that belongs to no option before it, and is none of the suite's."""
    of_option = option.startswith("-") and "=" not in option
    return not of_option and not word.startswith("-") and word.endswith(".py") and not _is_own(word, here)


def _is_own(word: str, here: Path) -> bool:
    """Whether a word names one of the suite's test files, or a check in it."""
    return word.startswith("test_") and (here / word.partition("::")[0]).is_file()


def conventions(arguments: Sequence[str]) -> int:
    """`normspec conventions`: tell what backends do and how to convert; 2 if the command line asks for what is not."""
    parser = argparse.ArgumentParser(
        prog="normspec conventions",
        description="Tell what backends do, from their behaviour alone; with several, where they differ, and how to "
        "convert between the first and each other. A conversion is executed and verified before it is printed.",
    )
    parser.add_argument(
        "backends", nargs="+", metavar="NAME|FILE.py[:NAME]|MODULE:NAME", help="what to look at; as for --backend"
    )
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="only these dtypes; repeatable (default: all)")
    parser.add_argument("--profile", choices=PROFILES, default="quick", help="how many cases (default: quick)")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="draw other cases than the fixed ones")
    parser.add_argument("--json", metavar="FILE", help="write all of it as JSON; - for standard output, and no text")
    parser.add_argument("-v", "--verbose", action="store_true", help="also what is alike, and how it was found")
    parser.add_argument("-q", "--quiet", action="store_true", help="no text, and no conversions in the JSON")
    options = parser.parse_args(arguments)
    backends, not_run = _opened(parser, options.backends, options.dtype)

    from normspec.conformance.conventions.comparison import Comparison
    from normspec.conformance.conventions.conventions import find
    from normspec.conformance.conventions.conversion import conversions

    laboratory = Laboratory(PROFILES[options.profile], options.seed)
    found = []
    for backend in backends:
        if sys.stderr.isatty():
            print(f"looking at {backend.title} ...", file=sys.stderr)
        found.append(find(backend, [d for d in backend.dtypes if not options.dtype or d in options.dtype], laboratory))
    others = () if options.quiet else found[1:]
    pairs = [pair for other in others for pair in ((found[0], other), (other, found[0]))]
    made = [conversion for a, b in pairs for conversion in conversions(a, b, laboratory)]
    comparison = Comparison(found, made, not_run)
    if options.json != "-" and not options.quiet:
        width = shutil.get_terminal_size().columns
        print(comparison.terminal(width, color=sys.stdout.isatty(), verbose=options.verbose), end="")
    if options.json == "-":
        print(comparison.json(laboratory), end="")
    elif options.json:
        path = Path(options.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(comparison.json(laboratory), encoding="utf-8")
        print(f"wrote {path}")
    return 0


def claims(arguments: Sequence[str]) -> int:
    """`normspec claims`: write the claims page; 2 if a results file cannot be read or a page cannot be written."""
    parser = argparse.ArgumentParser(
        prog="normspec claims",
        description="Tell what is claimed, in English, in Chinese and as formulas, with the rivals of each claim, the "
        "check that decides it, and the verdicts of the runs given. Without options, as Markdown on standard output.",
    )
    parser.add_argument(
        "results", nargs="*", type=Path, metavar="RESULTS.json", help="what `--results` wrote; as many runs as you like"
    )
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the page as HTML: one file, without scripts")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the page as Markdown")
    parser.add_argument(
        "--source",
        metavar="URL",
        help="where the checkout is on the web, as https://github.com/OWNER/REPO/blob/main, for the links to checks "
        "(default: relative links)",
    )
    options = parser.parse_args(arguments)

    from normspec.conformance.reports import page
    from normspec.conformance.reports.outcomes import BadResults, read

    try:
        runs = [read(path) for path in options.results]
    except BadResults as problem:
        parser.exit(2, f"normspec claims: {problem}\n")

    def base(path: Path | None) -> str | None:
        return f"{options.source.rstrip('/')}/" if options.source else page.base_for(path)

    if options.html and options.html == options.markdown:
        parser.error(f"--html and --markdown are the same file, {options.html}: give each its own")
    if not options.html and not options.markdown:
        if isinstance(sys.stdout, io.TextIOWrapper):  # Chinese, whatever the terminal's encoding
            sys.stdout.reconfigure(encoding="utf-8")
        print(page.markdown(runs, base=base(None)), end="")
    for path, make in ((options.html, page.html), (options.markdown, page.markdown)):
        if path:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(make(runs, base=base(path)), encoding="utf-8")
            except OSError as error:
                parser.exit(2, f"normspec claims: {path} cannot be written: {error.strerror}.\n")
            print(f"wrote {path}")
    return 0


def record(arguments: Sequence[str]) -> int:
    """`normspec record`: run the suite and `conventions` on the same backends; the exit status of the suite."""
    parser = argparse.ArgumentParser(
        prog="normspec record",
        description="Check backends, ask what they do, and leave in DIR what `normspec matrix` reads: results.json, "
        "conventions.json, and stand-alone scripts of everything that deviates. Options of the suite and of "
        "pytest, as --profile quick or -n auto, come behind.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="where to leave it")
    parser.add_argument(
        "backends", nargs="+", metavar="NAME|FILE.py[:NAME]|MODULE:NAME", help="what to check; as for --backend"
    )
    parser.add_argument("--dtype", action="append", default=[], help="only these dtypes; repeatable (default: all)")
    options, further = parser.parse_known_args(arguments)
    folder: Path = options.folder
    named = [word for backend in options.backends for word in ("--backend", backend)]
    dtypes = [word for dtype in options.dtype for word in ("--dtype", dtype)]
    left = ["--results", str(folder / "results.json"), "--scripts", str(folder / "scripts")]
    shutil.rmtree(folder / "scripts", ignore_errors=True)  # those of an earlier run would pass for this one's
    status = main([*named, *dtypes, *left, *further])
    if status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        conventions([*options.backends, *dtypes, "--json", str(folder / "conventions.json"), "--quiet"])
    return status


def matrix(arguments: Sequence[str]) -> int:
    """`normspec matrix`: merge runs; 1 if something changed that nobody declared, 2 if they cannot be merged."""
    parser = argparse.ArgumentParser(
        prog="normspec matrix",
        description="Merge the results of many runs, from any machines, into one matrix of claims, backends and "
        "versions. A folder is searched for results.json, for what `normspec conventions --json` wrote, and for "
        "stand-alone scripts. Without options the matrix is printed as Markdown.",
        epilog="Exit status: 0; 1 if --baseline finds a change that nobody declared; 2 if the runs cannot be merged.",
    )
    parser.add_argument("places", nargs="+", type=Path, metavar="DIR|results.json", help="what runs left")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the page: one file that needs no other")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the merged results, for a later --baseline")
    parser.add_argument("--markdown", metavar="FILE", type=Path, help="write the matrix as Markdown")
    parser.add_argument(
        "--badge", metavar="FILE", type=Path, help="write a badge as SVG: how many verdicts are as declared"
    )
    parser.add_argument(
        "--baseline", metavar="OLD.json", type=Path, help="list what changed since this --json file; fail if undeclared"
    )
    parser.add_argument(
        "--mixed",
        action="store_true",
        help="merge runs of another normspec, profile or seed, too, and mark their columns",
    )
    options = parser.parse_args(arguments)

    from normspec.conformance.reports import changes, merged
    from normspec.conformance.reports.outcomes import BadResults

    try:
        found = merged.gather(options.places, mixed=options.mixed)
        old = merged.read(options.baseline) if options.baseline else None
    except BadResults as problem:
        parser.exit(2, f"normspec matrix: {problem}\n")
    for path, text in _pages(found, options):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            parser.exit(2, f"normspec matrix: {path} cannot be written: {error.strerror}.\n")
        print(f"wrote {path}")
    if not (options.html or options.json or options.markdown or options.badge or old):
        print(found.markdown(), end="")
    else:
        print(f"{len(found.columns)} columns: {', '.join(f'{n} {kind}' for kind, n in found.tally().items())}.")
    if old is None:
        return 0
    if otherwise := [name for name in merged.ALIKE if old.settings[name] != found.settings[name]]:
        told = ", ".join(f"{name} {old.settings[name]}" for name in otherwise)
        print(f"{options.baseline} was asked otherwise ({told}): what changed may be the question, not the backend.")
    changed = changes.changes(old, found)
    undeclared = changes.unexpected(changed)
    if not changed:
        print(f"Nothing changed since {options.baseline}.")
    else:
        print(f"Since {options.baseline}, {len(changed)} verdicts changed; {len(undeclared)} of them (!) undeclared:")
    for line in changes.told(changed):
        print(line)
    return 1 if undeclared else 0


def _pages(found: "Merged", options: argparse.Namespace) -> Iterator[tuple[Path, str]]:
    """What is to be written, and where; each is made when its turn comes."""
    if options.json:
        yield options.json, found.json()
    if options.markdown:
        yield options.markdown, found.markdown()
    if options.badge:
        from normspec.conformance.reports import matrix_page

        yield options.badge, matrix_page.badge(found)
    if options.html:
        from normspec.conformance.reports import matrix_page

        yield options.html, matrix_page.html(found)


def _opened(
    parser: argparse.ArgumentParser, specs: Sequence[str], dtypes: Sequence[str] | None
) -> tuple[list[Backend], dict[str, str]]:
    """The backends that can run here, and why the others cannot. Exits with a sentence where nothing can be told."""
    backends, not_run = [], {}
    for spec in dict.fromkeys(specs):
        try:
            backend = open_backend(spec) if spec == TRUSTED else Isolated(spec, Limits()).open()
        except BadAdapter as problem:
            parser.exit(2, f"normspec conventions: {problem}\n")
        except Unavailable as reason:
            not_run[spec] = str(reason)
            continue
        if dtypes and not set(dtypes) & set(backend.dtypes):
            not_run[spec] = f"it offers {', '.join(backend.dtypes)}, and {' and '.join(dtypes)} was asked for"
            continue
        backends.append(backend)
    if not backends:
        told = "; ".join(f"{name}: {reason}" for name, reason in not_run.items())
        parser.exit(2, f"normspec conventions: None of the backends can be looked at here. {told}\n")
    names = [backend.name for backend in backends]
    if len(set(names)) < len(names):
        told = f"Two backends have the same name: {', '.join(names)}. Give each its own `name`."
        parser.exit(2, f"normspec conventions: {told}\n")
    return backends, not_run
