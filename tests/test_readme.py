"""What the README shows is what happens."""

import re
from pathlib import Path

import pytest

from normspec import conformance

README = Path(__file__).parents[1] / "README.md"
SUITE = Path(conformance.__path__[0])
TEXT = README.read_text(encoding="utf-8")


def block(kind, start):
    """The fenced block of a kind that contains `start`."""
    blocks = re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)
    return next(b for b in blocks if start in b)


def test_the_adapter_shown_fails_as_shown(pytester):
    pytester.makepyfile(my_norm=block("python", "# my_norm.py"))
    options = ("--claim", "running.sample-variance", "--dtype", "float32", "--backend", "my_norm.py")
    result = pytester.runpytest_subprocess(SUITE, *options)
    printed = result.stdout.str()
    for line in block("text", "verdict  follows").splitlines():
        words, told = line.split()[:1], line
        if words[0] not in ("again", "script"):  # these depend on where one stands
            assert told in printed


def test_the_adapter_shown_is_green_with_the_file_shown(pytester):
    pytester.makepyfile(my_norm=block("python", "# my_norm.py"))
    pytester.makefile(".toml", my_norm=block("toml", "# my_norm.toml"))
    claims = ("running.sample-variance", "usage.larger-batch", "hygiene.empty-batch", "normalize.centered")
    options = [word for claim in claims for word in ("--claim", claim)]
    result = pytester.runpytest_subprocess(SUITE, *options, "--backend", "my_norm.py", "--profile", "quick", "-n", "0")
    result.assert_outcomes(passed=2, xfailed=6)
    assert result.ret == 0


def test_every_claim_in_the_matrix_shown_exists():
    from normspec.conformance.claims.claims import CLAIMS

    shown = re.findall(r"^([a-z]+\.[a-z-]+) ", block("text", "running.update"), re.MULTILINE)
    assert len(shown) > 10
    assert set(shown) <= set(CLAIMS)


def test_every_option_shown_exists(pytester):
    table = TEXT.partition("## Options")[2].partition("## Where")[0]
    options = set(re.findall(r"`(--[a-z]+)", table)) - {"--lf", "--collect-only", "--junitxml"}
    helped = pytester.runpytest_subprocess(SUITE, "--help").stdout.str()
    assert len(options) >= 7
    for option in options:
        assert option in helped


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", TEXT))
def test_every_link_leads_somewhere(target):
    assert target.startswith("http") or (README.parent / target).exists()


def test_the_check_of_every_claim_is_where_the_readme_says():
    from checks import check_functions

    for claim, function in check_functions().items():
        topic, _, statement = claim.partition(".")
        assert function.__module__.endswith(f".test_{topic}")
        assert function.__name__ == f"test_{statement.replace('-', '_')}"
        assert function.__doc__
