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
    placed = [str(here / word) if _is_own(word, here) else word for word in given]
    return int(pytest.main([*own, *placed, *([] if placed != given else [str(here)])]))


def _is_own(word: str, here: Path) -> bool:
    """Whether a word names one of the suite's test files, or a check in it."""
    return word.startswith("test_") and (here / word.partition("::")[0]).is_file()
