"""`normspec`: the suite as a command, from any directory and for an installed copy. It takes pytest's options.

`normspec --backend my_adapter.py -n auto` is `pytest conformance --backend my_adapter.py -n auto` without a checkout.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite as pytest would; its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    here = Path(__file__).parent
    # The reader's own pytest configuration is about their tests, not about this suite: it is left out.
    own = ["-c", str(here / "normspec.ini"), f"--rootdir={here}", "-p", "no:cacheprovider"]
    return int(pytest.main([*own, *given, *_targets(given, here)]))


def _targets(given: Sequence[str], here: Path) -> list[str]:
    """The whole suite, unless one of its test files is named."""
    chosen = [a for a in given if a.startswith("test_") and (here / a.partition("::")[0]).is_file()]
    return [] if chosen else [str(here)]
