"""The claims page: it is complete, its links lead to the checks, and it shows what runs found."""

import json
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import faults
import pytest
from checks import check_functions, run_check
from conftest import SUITE
from faulty import FAULTS as RIVAL_FAULTS
from faulty import backend

from normspec.backends.numpy import NumPy
from normspec.conformance.claims.chinese import CHINESE
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.claims.errata import ERRATA
from normspec.conformance.claims.formulas import CHOICES, FORMULAS, MISTAKES, RELATIVES, of_rival
from normspec.conformance.command import main
from normspec.conformance.reports import page
from normspec.conformance.reports.matrix import claims_digest
from normspec.conformance.reports.words import TOPICS, VERDICTS
from normspec.conformance.verdicts.verdicts import Kind
from normspec.reference import Rules

ROOT = SUITE.resolve().parent

RIVALS = [(claim, rival) for claim in CLAIMS.values() for rival in claim.rivals]
EVERY_FORMULA = [*FORMULAS.values(), *CHOICES.values(), *(f for own in RELATIVES.values() for f in own.values())]
CHINESE_LETTER = re.compile(r"[\u4e00-\u9fff]")


# -- nothing is missing -----------------------------------------------------------------------------------------------


def test_every_claim_has_a_check_and_every_check_a_claim():
    assert set(page.checks()) == set(CLAIMS) == set(check_functions())


def test_every_claim_has_its_chinese_and_its_formula_and_nothing_else_has():
    assert set(CHINESE) == set(FORMULAS) == set(CLAIMS)


@pytest.mark.parametrize("claim", CHINESE)
def test_chinese_is_chinese(claim):
    text = CHINESE[claim]
    assert len(CHINESE_LETTER.findall(text)) >= 6 or claim == "relatives.weight-norm-gradients"
    assert text.endswith("。")
    assert not re.search(r"[\u4e00-\u9fff][,:;!?()]|[,:;!?()][\u4e00-\u9fff]", text), "marks beside Chinese are wide"


def test_every_topic_has_a_name():
    assert {claim.partition(".")[0] for claim in CLAIMS} <= set(TOPICS)


@pytest.mark.parametrize(("claim", "rival"), RIVALS, ids=lambda value: getattr(value, "id", "") or value.name)
def test_every_rival_has_a_formula_or_a_sentence(claim, rival):
    assert of_rival(claim, rival) if rival.change else MISTAKES.get(rival.name, "").endswith(".")


def test_every_verdict_has_its_sign():
    assert set(VERDICTS) == set(Kind)
    assert len({legend.sign for legend in VERDICTS.values()}) == len(Kind)


@pytest.mark.parametrize("formula", EVERY_FORMULA)
def test_formulas_are_read_alike_by_markdown_and_mathml(formula):
    assert not re.search(r"\\[^a-zA-Z]|[|*`<>$\n]|\]\(|[^A-Za-z0-9]_|\\operatorname", formula)
    assert formula.count("{") == formula.count("}")
    assert "\\" not in page.mathml(formula), "a command that is not known"


def test_formulas_of_choices_are_of_choices_that_exist():
    fields = set(Rules.__dataclass_fields__)
    keys = [key for own in (CHOICES, *RELATIVES.values()) for key in own]
    assert {field for key in keys for field, _ in (key if isinstance(key[0], tuple) else [key])} <= fields


# -- every claim decides something ------------------------------------------------------------------------------------


def test_every_rival_is_run_as_a_fault():
    """`test_rivals.py` runs them; a rival without one would have nothing that refutes it."""
    assert {(claim.id, rival.name) for claim, rival in RIVALS} == set(RIVAL_FAULTS)


SOUND = backend(NumPy(), "numpy")


@pytest.mark.parametrize("claim", [c for c in CLAIMS.values() if any(r.change for r in c.rivals)], ids=lambda c: c.id)
def test_some_case_refutes_every_rival_that_is_a_formula(claim):
    verdict = run_check(claim.id, SOUND, "float32")
    if verdict.kind == Kind.NOT_OFFERED:
        pytest.skip("NumPy's adapter does not offer it")
    assert verdict.kind == Kind.CONFORMS
    for rival in claim.rivals:
        if rival.change and rival.name not in verdict.refuted:  # where a property is looked for, none are listed
            assert run_check(claim.id, backend(RIVAL_FAULTS[claim.id, rival.name]()), "float32").rival == rival.name


def test_every_claim_is_blamed_first_for_some_fault():
    """`fault_report.py` fails where a fault without an explanation is blamed on another claim than its own."""
    blamed = {fault.claim for fault in faults.FAULTS.values() if not fault.explained}
    assert set(CLAIMS) <= blamed


# -- the pages --------------------------------------------------------------------------------------------------------


class Parsed(HTMLParser):
    """Ids, links and languages of a page; fails where elements are not closed in their order."""

    VOID = frozenset(("meta", "link", "br", "img", "hr"))

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.languages, self.elements = [], Counter(), [], [], Counter()
        self.text = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.elements[tag] += 1
        self.ids.update(v for k, v in attrs if k == "id")
        self.links += [v for k, v in attrs if k in ("href", "src")]
        self.languages += [v for k, v in attrs if k == "lang"]
        if tag not in self.VOID:
            inherited = self.open[-1][1] if self.open else ""
            self.open.append((tag, given.get("lang", inherited)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        language = self.open[-1][1] if self.open else ""
        self.text[language] = self.text.get(language, "") + data


def run_of(*cells, **more):
    """A results.json, as a run of today would have written it."""
    return {
        "schema": 1,
        "normspec": "0.1.0",
        "python": "3.11",
        "platform": "Linux",
        "numpy": "2.4",
        "hypothesis": "6",
        "profile": "quick",
        "seed": 1,
        "claims": claims_digest(),
        "not_run": {},
        "broken": {},
        "backends": [{"name": "mine", "version": "7", "dtypes": ["float32", "float16"]}],
        "cells": list(cells),
        **more,
    }


def cell(claim="running.sample-variance", dtype="float32", **change):
    """A cell of a results.json; what is given replaces or adds to its verdict, but for what belongs to the cell."""
    own = {key: change.pop(key) for key in ("expected", "declared", "reason") if key in change}
    verdict = {
        "kind": "conforms",
        "rival": "",
        "words": "holds",
        "right": "",
        "found": "",
        "cases": 3,
        "worst": {},
        "refuted": {},
        "left": [],
        "counterexample": None,
        **change,
    }
    return {
        "claim": claim,
        "backend": "mine",
        "dtype": dtype,
        "verdict": verdict,
        "declared": "",
        "expected": True,
        "reason": "",
        **own,
    }


@pytest.fixture
def pages(tmp_path, capsys):
    """Both pages for some results."""

    def pages(*runs):
        files = []
        for number, run in enumerate(runs):
            files.append(tmp_path / f"{number}.json")
            files[-1].write_text(json.dumps(run), encoding="utf-8")
        arguments = ["--html", str(tmp_path / "deep" / "page.html"), "--markdown", str(tmp_path / "page.md")]
        assert main(["claims", *arguments, *map(str, files)]) == 0
        assert capsys.readouterr().out.count("wrote ") == 2
        return [(tmp_path / name).read_text(encoding="utf-8") for name in ("deep/page.html", "page.md")]

    return pages


@pytest.fixture(scope="module")
def bare():
    """The page in HTML without results."""
    return page.html([])


def test_the_html_is_sound(bare):
    parsed = Parsed(bare)
    assert bare.startswith("<!doctype html>")
    assert [name for name, times in parsed.ids.items() if times > 1] == []
    assert set(CLAIMS) <= set(parsed.ids)
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)
    assert set(parsed.languages) == {"en", "zh-Hans"}
    assert parsed.elements["article"] == len(CLAIMS)


def test_chinese_is_marked_as_chinese(bare):
    text = Parsed(bare).text
    assert not CHINESE_LETTER.search(text["en"])
    for claim in CLAIMS:
        assert CHINESE[claim] in text["zh-Hans"]


def test_the_html_loads_nothing(bare):
    parsed = Parsed(bare)
    assert not {"script", "link", "img", "iframe", "object"} & set(parsed.elements)
    assert not re.search(r"url\(|@import", bare)
    assert all(link.startswith(("#", "conformance/")) for link in parsed.links)


def test_the_html_has_every_formula(bare):
    assert bare.count("<math") >= len(CLAIMS) + sum(bool(r.change) for _, r in RIVALS)


def test_signs_do_not_rely_on_colour(bare):
    for kind, legend in VERDICTS.items():
        assert f'aria-hidden="true">{legend.sign}</span> {kind} ' in bare


def test_the_markdown_has_everything():
    text = page.markdown([])
    for claim in CLAIMS.values():
        assert text.count(f'<a id="{claim.id}"></a>\n\n### {claim.id}\n') == 1
        assert f"${FORMULAS[claim.id]}$" in text
        assert page._plain(CHINESE[claim.id]) in text
        assert all(f"- {page._plain(rival.name)}: " in text for rival in claim.rivals)
    assert "\n\n\n" not in text
    assert "No run was given" in text


def test_markdown_is_what_is_printed_without_options(capsys):
    assert main(["claims"]) == 0
    assert capsys.readouterr().out == page.markdown([])


@pytest.mark.parametrize("make", [page.html, page.markdown])
def test_links_lead_to_the_lines_that_define_the_checks(make):
    text = make([])
    links = re.findall(r"conformance/(test_\w+\.py)#L(\d+)", text)
    assert len(links) == len(CLAIMS)
    for (file, line), claim in zip(links, CLAIMS, strict=True):
        function = check_functions()[claim].__name__
        defined = (ROOT / "conformance" / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
        assert defined.startswith(f"def {function}(")


def test_links_lead_from_where_the_page_is(tmp_path):
    assert page.base_for(None) == page.base_for(ROOT / "CLAIMS.md") == page.base_for(tmp_path / "claims.md") == ""
    assert page.base_for(ROOT / "docs" / "claims.md") == "../"
    assert page.base_for(ROOT / "docs" / "more" / "claims.html") == "../../"


def test_an_installed_copy_names_checks_without_links(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "ROOT", tmp_path)
    assert main(["claims"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"检查: conformance/test_running\.py, line \d+, `test_update`\.", printed)
    assert "(conformance/" not in printed
    assert 'href="conformance/' not in page.html([], base=page.base_for(None))


def test_links_lead_to_the_web_if_asked(capsys):
    assert main(["claims", "--source", "https://example.org/blob/main/"]) == 0
    assert "(https://example.org/blob/main/conformance/test_running.py#L" in capsys.readouterr().out


@pytest.mark.parametrize("make", [page.html, page.markdown])
def test_an_erratum_stands_with_the_claims_it_concerns(make):
    text = make([])
    for erratum in ERRATA:
        assert set(erratum.claims) <= set(CLAIMS)
        shown = [text.count(page._plain(t) if make is page.markdown else t.replace("&", "&amp;"))
                 for t in (erratum.english, erratum.chinese)]  # fmt: skip
        assert shown == [1 + len(erratum.claims)] * 2


# -- results ----------------------------------------------------------------------------------------------------------


def test_verdicts_are_shown(pages):
    html, markdown = pages(
        run_of(
            cell(kind="deviates", rival="population variance, divisor m", words="another rule", expected=False),
            cell(dtype="float16", found="a <b> *value*"),
            cell("precision.half-statistics", kind="inconclusive", reason="the question is about half precision only"),
            not_run={"far": "no card"},
            broken={"lost.py": "lost.py is not there."},
        )
    )
    Parsed(html)
    for told in (
        "- ≠ mine 7 [f32]: deviates: population variance, divisor m. another rule",
        r"- ✓ mine 7 [f16]: conforms (a \<b> \*value\*)",
        "- ? mine 7 [f32]: inconclusive. the question is about half precision only",
        "far was not run: no card",
        "lost.py is not there.",
        "(#running.sample-variance) ≠",
        "(#running.update) ·",
    ):
        assert told in markdown
    for told in ("deviates: population variance, divisor m", "conforms (a &lt;b&gt; *value*)", "no card"):
        assert told in html
    assert "No run was given" not in html + markdown


def test_dtypes_of_one_verdict_stand_together(pages):
    _, markdown = pages(run_of(cell(), cell(dtype="float16")))
    assert "- ✓ mine 7 [f32 f16]: conforms\n" in markdown


def test_a_declared_deviation_is_marked(pages):
    told = {"kind": "deviates", "rival": "eps mixed in", "declared": "eps mixed in", "reason": "historical (a link)"}
    _, markdown = pages(run_of(cell(**told)))
    assert r"deviates: eps mixed in \*. historical (a link)" in markdown


def test_the_same_backend_of_two_runs_is_told_apart(pages):
    html, markdown = pages(run_of(cell()), run_of(cell(kind="fails", expected=False, words="wrong")))
    assert "- ✓ mine 7 (0.json) [f32]: conforms" in markdown
    assert "- ✗ mine 7 (1.json) [f32]: fails. wrong" in markdown
    assert "mine 7 (1.json)" in html


def test_keys_that_are_not_known_are_passed_over(pages):
    plain = run_of(cell(more=1), cell("running.no-longer-made"), more=2)
    plain["cells"][0]["more"] = 3
    _, markdown = pages(plain)
    assert "- ✓ mine 7 [f32]: conforms\n" in markdown
    assert "Claims that are no longer made are left out: running.no-longer-made." in markdown


def test_results_of_other_claims_say_so(pages):
    assert "run the suite again" not in pages(run_of(cell()))[1]
    assert "run the suite again" in pages(run_of(cell(), claims="0" * 16))[1]


def test_curves_are_drawn_and_their_ends_are_named(pages, monkeypatch):
    class Curves:
        @staticmethod
        def drawn(title, curves):
            return (
                f"<svg><title>{title}: {', '.join(curves)}, {max(len(c) for c in curves.values())} steps</title></svg>"
            )

    monkeypatch.setitem(sys.modules, "normspec.conformance.reports.curves", Curves)
    html, markdown = pages(run_of(cell(curves={"with": [2.3, 1.0, 0.1], "without": [2.3, "nan"], "none": []})))
    assert "<svg><title>mine 7, f32: with, without, none, 3 steps</title></svg>" in html
    assert "  - with: from 2.3 to 0.1\n" in markdown
    assert "  - without: from 2.3 to nan\n" in markdown


def test_curves_need_no_drawing(pages, monkeypatch):
    monkeypatch.setitem(sys.modules, "normspec.conformance.reports.curves", None)
    html, _ = pages(run_of(cell(curves={"with": [2.3, 0.1]})))
    assert "<svg" not in html


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read: No such file or directory."),
        ("{", "is not JSON; give a file that"),
        ("[]", "is not what `pytest conformance --results FILE` writes"),
        ("{}", "is not what `pytest conformance --results FILE` writes"),
        (json.dumps(run_of(schema=2)), "is not what `pytest conformance --results FILE` writes (schema 1)"),
        (json.dumps(run_of(cell(kind="passes"))), "is not what `pytest conformance --results FILE` writes"),
        (json.dumps(run_of(cells=[{}])), "is not what `pytest conformance --results FILE` writes"),
        (json.dumps(run_of(cells=None)), "is not what `pytest conformance --results FILE` writes"),
    ],
)
def test_a_bad_results_file_gives_one_sentence(text, told, tmp_path, capsys):
    file = tmp_path / "results.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["claims", str(file)])
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.out == ""
    assert told in printed.err
    assert printed.err.startswith(f"normspec claims: {file} ")
    assert printed.err.count("\n") == 1


def test_a_page_that_cannot_be_written_gives_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["claims", "--html", str(tmp_path / "file" / "page.html")])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_nothing_else_needs_what_the_page_is_made_with():
    """The command imports the pages where they are asked for; the suite does without."""
    source = "\n".join(p.read_text(encoding="utf-8") for p in Path(SUITE).glob("*.py") if "page" not in p.name)
    assert not re.search(r"^(import|from) (jinja2|latex2mathml|markupsafe)", source, re.MULTILINE)
    assert not re.search(r"^from normspec\.conformance(\.page)? import .*\bpage\b", source, re.MULTILINE)
