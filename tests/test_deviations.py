"""Known deviations in files beside the adapters: what may stand in one, and the sentence for what may not."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ADAPTERS, SUITE
from test_adapters import BOTH, assert_one_sentence

from normspec.backends import SHIPPED
from normspec.conformance.cases.arithmetic import DTYPES
from normspec.conformance.trials.adapters import BadAdapter, open_backend
from normspec.conformance.trials.deviations import read

BACKENDS = SUITE.parent / "backends"
FILES = sorted(BACKENDS.glob("*.toml"))
ADAPTERS_OF = {
    path.stem: [name for name, shipped in SHIPPED.items() if f".{path.stem}:" in shipped.place] for path in FILES
}

ONE = """
[[deviation]]
reason = "one variance is kept"
claims = [
    { claim = "running.sample-variance", rival = "population variance, divisor m" },
]
"""
SEVERAL = "class A:\n    def train(self): ...\n    def evaluate(self): ...\nclass B(A):\n    name = 'my-b'\n"


def changed(old, new, text=ONE):
    assert old in text
    return text.replace(old, new)


@pytest.fixture
def opened(tmp_path):
    """Opens an adapter with a file beside it; each test has a folder, hence a module, of its own."""

    def opened(text, source=BOTH, name=""):
        (tmp_path / "my.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        (tmp_path / "my.py").write_text(source)
        return open_backend(f"{tmp_path / 'my.py'}{name}")

    return opened


def declared(backend):
    return [(d.claim, d.rival, d.versions, d.dtypes) for d in backend.deviations]


VARIANCE = ("running.sample-variance", "population variance, divisor m", "", DTYPES)

# -- the wrong ones ---------------------------------------------------------------------------------------------------

WRONG = {
    # what the file holds, the line, and what the sentence must say
    "no TOML": (changed('"one variance is kept"', "one variance"), 3, r"not TOML: invalid value at column 10; correct"),
    "cut off": (ONE[: ONE.index("]\n", 20)], 5, r"not TOML: .* at the end; correct the line"),
    "a key twice": (changed("claims", 'reason = "so"\nclaims'), 4, r"not TOML: a key is given twice"),
    "another encoding": (changed("kept", "gehört").encode("latin-1"), 3, r"not UTF-8; save the file as UTF-8"),
    "an unknown name at the top": ("\ndeviations = []", 2, r"deviations is unknown; expected .*mean deviation\?"),
    "a single table": (
        changed("[[deviation]]", "[deviation]"),
        2,
        r"is one table; write its header as \[\[deviation\]\]",
    ),
    "text for a table": (
        'deviation = [\n    "running.update",\n]',
        2,
        r"a deviation is 'running\.update'; expected a table",
    ),
    "no reason": (changed('reason = "one variance is kept"\n', ""), 2, r"a deviation lacks reason; add a sentence"),
    "an empty reason": (changed("one variance is kept", " "), 3, r"reason is ' '; expected a sentence"),
    "no claims": (ONE[: ONE.index("claims")], 2, r"a deviation lacks claims; add a list as \[\{ claim = "),
    "an empty list of claims": (ONE[: ONE.index("claims")] + "claims = []", 4, r"claims is \[\]; expected a list as"),
    "an unknown key": (changed("reason", "reasons"), 3, r"no reasons; expected reason, claims, .*mean reason\?"),
    "an unknown key of a claim": (
        changed(" }", ', dtype = "float32" }'),
        5,
        r"a claim of a deviation has no dtype; expected claim, rival, .*mean dtypes\?",
    ),
    "a key of the table at a claim": (changed(" }", ', reason = "so" }'), 5, r"a claim of a deviation has no reason"),
    "no rival": (changed(', rival = "population variance, divisor m"', ""), 5, r"lacks rival; add the name of a rival"),
    "a rival that is a number": (
        changed('"population variance, divisor m"', "0.01"),
        5,
        r"rival is 0\.01; expected .*quotes",
    ),
    "an unknown claim": (
        changed("sample-variance", "sample-varience"),
        5,
        r"'running\.sample-varience' is no claim; did you mean running\.sample-variance\?",
    ),
    "an unknown rival": (
        changed("divisor m", "divisor k"),
        5,
        r"'population variance, divisor k' is no rival of running\.sample-variance; expected the name that the matrix "
        r"prints, or fails, .*; did you mean population variance, divisor m\?",
    ),
    "words for a value": (
        changed("running.sample-variance", "normalize.eps-default"),
        5,
        r"is no rival of normalize\.eps-default",
    ),
    "an unknown dtype": (
        changed("claims", 'dtypes = ["float8"]\nclaims'),
        4,
        r"dtypes is \['float8'\]; expected .*float64",
    ),
    "one dtype as text": (changed("claims", 'dtypes = "float32"\nclaims'), 4, r"dtypes is 'float32'; expected a list"),
    "no dtypes": (
        changed(" }", ", dtypes = [] }"),
        5,
        r"dtypes is \[\]; expected a list of some .*leave it out for all",
    ),
    "versions without an operator": (
        changed("claims", 'versions = "2.x"\nclaims'),
        4,
        r"versions is '2\.x'; expected .*'>=2",
    ),
    "a version that is a number": (
        changed("claims", "versions = 2.0\nclaims"),
        4,
        r"versions is 2\.0; expected specifiers",
    ),
    "versions of a package": (
        changed("claims", 'packages = { numpy = "2.x" }\nclaims'),
        4,
        r"packages is \{'numpy': '2\.x'\}; expected .*numpy = '<2'",
    ),
    "an unknown adapter": (
        changed("claims", 'adapters = [\n    "my-a",\n]\nclaims'),
        4,
        r"'my-a' is no adapter of the file beside; expected some of A, B, my-b; did you mean my-b\?",
    ),
    "one adapter as text": (
        changed("claims", 'adapters = "A"\nclaims'),
        4,
        r"adapters is 'A'; expected a list of names",
    ),
    "declared twice": (
        ONE + changed("{", '{ claim = "running.update", rival = "updated twice" },\n    {'),
        12,
        r"running\.sample-variance is declared again for float64; remove it, .*Line 5 comes first and counts",
    ),
    "a dtype twice": (
        changed(",\n]", ',\n    { claim = "running.sample-variance", rival = "fails", dtypes = ["float16"] },\n]'),
        6,
        r"declared again for float16",
    ),
    "something of another adapter": (
        changed("claims", 'adapters = ["B"]\nlink = ""\nclaims'),
        5,
        r"link is ''; expected an",
    ),
}


@pytest.mark.parametrize("problem", WRONG)
def test_a_wrong_file_gets_one_sentence_with_its_line(opened, problem):
    text, line, pattern = WRONG[problem]
    with pytest.raises(BadAdapter) as caught:
        opened(text, SEVERAL, ":A")
    said = str(caught.value)
    assert re.search(rf"my\.toml, line {line}: .*{pattern}", said), said
    assert "\n" not in said


def test_a_wrong_file_is_a_usage_error(suite, pytester):
    """Also of an adapter in a process of its own, where versions are known."""
    pytester.makepyfile(my=BOTH)
    pytester.makefile(".toml", my=changed("sample", "simple"))
    result = suite("--backend", "my.py", "--claim", "normalize.centered", "--dtype", "float32")
    assert_one_sentence(result, r"my\.toml, line \d: 'running\.simple-variance' is no claim; did you mean")


# -- the right ones ---------------------------------------------------------------------------------------------------

RIGHT = {
    # what is added to a claim, and what then is declared
    "nothing": ("", VARIANCE),
    "versions": (', versions = ">=2,<3"', (*VARIANCE[:2], ">=2,<3", DTYPES)),
    "dtypes": (', dtypes = ["float32", "float16"]', (*VARIANCE[:3], ("float32", "float16"))),
    "an adapter by class": (', adapters = ["A"]', VARIANCE),
    "another adapter": (', adapters = ["my-b"]', None),
    "packages that are there": (', packages = { numpy = ">=1", pytest = "" }', VARIANCE),
    "packages of other versions": (', packages = { numpy = "<1" }', None),
    "packages that are not there": (', packages = { no-such-package = "" }', None),
}


@pytest.mark.parametrize("more", RIGHT)
def test_what_a_file_declares(opened, more):
    added, expected = RIGHT[more]
    of_claim = opened(changed(" }", f"{added} }}"), SEVERAL, ":A")
    assert declared(of_claim) == ([expected] if expected else [])


@pytest.mark.parametrize("more", RIGHT)
def test_what_a_table_says_holds_for_its_claims(opened, more):
    added, expected = RIGHT[more]
    of_table = opened(changed("claims", f"{added[2:]}\nclaims"), SEVERAL, ":A")
    assert declared(of_table) == ([expected] if expected else [])


RIVALS = {
    "running.update": "momentum weighs the old value",
    "example.article": "momentum weighs the old value and population variance, divisor m",
    "running.momentum-default": "0.01",
    "normalize.eps-default": "9.9999997473788e-06",
    "hygiene.every-shape": "narrow sums",
    "hygiene.empty-batch": "crashed",
    "normalize.centered": "mean not subtracted or weight and bias swapped",
}


@pytest.mark.parametrize("claim", RIVALS)
def test_every_name_of_a_verdict_is_a_rival(opened, claim):
    text = changed("running.sample-variance", claim)
    (found,) = opened(changed("population variance, divisor m", RIVALS[claim], text)).deviations
    assert (found.claim, found.rival, found.link) == (claim, RIVALS[claim], "undocumented")


def test_the_first_that_fits_counts(opened):
    earlier = '    { claim = "running.sample-variance", rival = "fails", versions = "<2", dtypes = ["float32"] },\n'
    backend = opened(changed("claims = [\n", f"claims = [\n{earlier}"))
    for version, dtype, rival in (
        ("1.9", "float32", "fails"),
        ("1.9", "float64", VARIANCE[1]),
        ("2", "float32", VARIANCE[1]),
    ):
        assert replace(backend, version=version).declared(VARIANCE[0], dtype).rival == rival


def test_what_the_code_declares_comes_before_the_file(opened):
    of_code = {"claim": "running.update", "rival": "updated twice", "versions": "", "reason": "so", "link": "none"}
    backend = opened(ONE, f"{BOTH}deviations = [{of_code!r}]")
    assert [d.claim for d in backend.deviations] == ["running.update", "running.sample-variance"]


DERIVED = "from my import A\nclass C(A): ...\n"


@pytest.mark.parametrize(
    ("source", "expected"),
    [(DERIVED, [VARIANCE]), (DERIVED.replace("...", "deviations = ()"), [])],
    ids=["kept", "replaced"],
)
def test_a_class_without_a_file_has_those_of_what_it_derives_from(tmp_path, source, expected):
    unique = f"base_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{unique}.py").write_text(SEVERAL)
    (tmp_path / f"{unique}.toml").write_text(changed("claims", 'adapters = ["A"]\nclaims'))
    (tmp_path / "own.py").write_text(source.replace("from my ", f"from {unique} "))
    assert declared(open_backend(f"{tmp_path / 'own.py'}:C")) == expected


def test_an_empty_file_declares_nothing(opened):
    assert opened("# nothing is known\n").deviations == ()


def test_declarations_travel_from_the_process_of_the_backend(run, tmp_path):
    (tmp_path / "my.py").write_text((ADAPTERS / "plain.py").read_text().replace("ddof = 1", "ddof = 0"))
    (tmp_path / "my.toml").write_text(ONE)
    claims = ("--claim", "running.sample-variance", "--claim", "normalize.centered", "--dtype", "float32")
    done = run("--backend", "my.py:Plain", *claims, folder=tmp_path)
    assert done.status == 0, done.out
    cell = done.cells["running.sample-variance", "Plain", "float32"]
    assert (cell["declared"], cell["reason"]) == (VARIANCE[1], "one variance is kept (undocumented)")


# -- those that ship --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_is_right_and_about_its_adapters(path):
    found = read(path, ADAPTERS_OF[path.stem])
    assert found
    assert {name for each in found for name in each.adapters} <= set(ADAPTERS_OF[path.stem])


def test_every_shipped_file_lies_beside_an_adapter():
    assert all(path.with_suffix(".py").is_file() for path in FILES)
    assert len(FILES) > 15


@pytest.mark.parametrize("path", sorted(BACKENDS.glob("*.py")), ids=lambda path: path.stem)
def test_a_shipped_adapter_holds_no_deviations(path):
    names = {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
    assert path.stem == "contract" or "deviations" not in names


@pytest.mark.parametrize("name", ["torch", "jax-jit", "onnx-reference", "onnxruntime-y-alone"])
def test_a_shipped_adapter_declares_what_its_file_says(name):
    pytest.importorskip(SHIPPED[name].needs[-1])
    path = Path(BACKENDS, SHIPPED[name].place.partition(":")[0].rpartition(".")[2]).with_suffix(".toml")
    expected = [e for e in read(path, ADAPTERS_OF[path.stem]) if not e.adapters or name in e.adapters]
    assert list(open_backend(name).deviations) == [e.deviation for e in expected if e.installed()]
