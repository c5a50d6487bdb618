"""The matrix page: complete without scripts, safe with hostile names, and usable in a real browser."""

import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import pytest
from conftest import ADAPTERS, QUICK

from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.conventions.conventions import UNKNOWN, Conduct
from normspec.conformance.conventions.conversion import Conversion, Verification
from normspec.conformance.reports import matrix_page, pairs, plots
from normspec.conformance.reports.curves import drawn
from normspec.conformance.reports.merged import Column, Merged, gather
from normspec.conformance.verdicts.verdicts import Counterexample, Kind

DAY = date(2026, 11, 23)
HOSTILE = "</script><img src=x onerror=document.title='hacked'>&\"'"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DEVIATING = "running.sample-variance"


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    some = ("--claim", "running.*", "--claim", "precision.cancellation", "--claim", "normalize.*", "--dtype", "float32")
    for name, backend in (("ours", "numpy"), ("theirs", str(ADAPTERS / "keras_like.py"))):
        command = [sys.executable, "-m", "normspec", "record", name, backend, *some, *QUICK]
        subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return gather([folder], made=DAY)


@pytest.fixture(scope="module")
def page(merged):
    return matrix_page.html(merged)


def hostile(merged) -> Merged:
    """The same matrix with a backend whose every word would like to be HTML."""
    first, last = merged.columns
    changed = replace(last, id=HOSTILE, backend=HOSTILE, notes=(HOSTILE,), conventions=None, scripts={})
    outcomes = {
        (claim, HOSTILE if column == last.id else column, dtype): (
            replace(o, words=HOSTILE, rival=o.rival and HOSTILE, reason=HOSTILE) if column == last.id else o
        )
        for (claim, column, dtype), o in merged.outcomes.items()
    }
    return replace(merged, columns=(first, changed), outcomes=outcomes, not_run={HOSTILE: HOSTILE})


def with_verdicts(merged, claim, **verdicts) -> tuple[Merged, Column]:
    """The same matrix with these verdicts of our own backend on a claim, by dtype; and its column."""
    column = merged.columns[0]
    one = replace(
        merged.at(claim, column.id)[0], rival="", found="", words="", expected=True, declared=False, reason="", worst={}
    )
    others = {key: o for key, o in merged.outcomes.items() if key[:2] != (claim, column.id)}
    told = {(claim, column.id, dtype): replace(one, dtype=dtype, **fields) for dtype, fields in verdicts.items()}
    return replace(merged, outcomes=others | told), column


DECLARED = {"expected": True, "declared": True}
STALE = {"expected": False, "declared": True}
NEWS = {"expected": False}


def embedded(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


# -- what is in the file ----------------------------------------------------------------------------------------------


def test_without_scripts_every_verdict_can_be_read(merged, page):
    for claim in merged.claims:
        assert f"<b>{claim}</b>" in page
    assert page.count("<td ") >= len(merged.claims) * 2
    assert 'title="deviates: population variance, divisor m, not as declared"' in page


def test_it_needs_no_other_file(page):
    loaded = re.findall(r'(?:src|href)\s*=\s*"([^"#][^"]*)"|url\(([^)]*)\)|@import', page.split('id="data"')[0])
    assert [a or b for a, b in loaded if not (b or a).startswith("#")] == []


def test_the_same_matrix_gives_the_same_bytes(merged, page):
    assert matrix_page.html(merged) == page


def test_nothing_that_a_backend_says_is_html(merged):
    text = matrix_page.html(hostile(merged))
    assert "<img src=x" not in text
    assert HOSTILE in json.dumps(embedded(text), ensure_ascii=False).replace('\\"', '"')


def test_scripts_are_put_together_again(merged, page):
    told = embedded(page)["scripts"]
    for column, number in zip(merged.columns, range(2), strict=True):
        for (claim, _), path in column.scripts.items():
            _, _, blocks = told["cells"][f"{claim} {number}"]
            assert "".join(told["blocks"][b] for b in blocks) == path.read_text(encoding="utf-8")


def test_reasons_keep_their_links(merged):
    (_, outcome), *_ = merged.outcomes.items()
    for reason, words, link in (
        ("so it is (https://example.org/a_(b)#c)", "so it is", "https://example.org/a_(b)#c"),
        ("so it is (undocumented)", "so it is (undocumented)", ""),
    ):
        told = matrix_page._verdict(replace(outcome, reason=reason))
        assert (told["reason"], told.get("link", "")) == (words, link)


def test_the_badge_counts(merged):
    unexpected = len(merged.unexpected)
    assert unexpected > 0
    every = len(merged.outcomes)
    assert f"<title>normspec: {every - unexpected} of {every} as declared</title>" in matrix_page.badge(merged)


# -- what a cell tells ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "kinds", "sign", "undeclared", "words"),
    [
        (
            {"float64": {"kind": Kind.CRASHED, **DECLARED}, "float32": {"kind": Kind.CONFORMS, **STALE}},
            ("crashed", "conforms"),
            "!*",
            True,
            "[f64]",
        ),
        (
            {"float64": {"kind": Kind.FAILS, **DECLARED}, "float32": {"kind": Kind.INCONCLUSIVE, **NEWS}},
            ("fails", "inconclusive"),
            "✗*",
            True,
            "[f64]",
        ),
        (
            {"float64": {"kind": Kind.CONFORMS}, "float16": {"kind": Kind.INCONCLUSIVE}},
            ("conforms", "inconclusive"),
            "✓",
            False,
            "",
        ),
        (
            {"float64": {"kind": Kind.CONFORMS}, "float16": {"kind": Kind.INCONCLUSIVE, **NEWS}},
            ("inconclusive", "conforms"),
            "?",
            True,
            "",
        ),
        (
            {"float32": {"kind": Kind.DEVIATES, "rival": "A", **DECLARED}, "float16": {"kind": Kind.NOT_OFFERED}},
            ("deviates", "not-offered"),
            "≠*",
            False,
            "A [f32]",
        ),
        (
            {
                "float64": {"kind": Kind.CONFORMS, "found": "stable"},
                "bfloat16": {"kind": Kind.CONFORMS, "found": "half steps"},
            },
            ("conforms",),
            "✓",
            False,
            "stable [f64]",
        ),
    ],
)
def test_a_cell_shows_the_gravest_verdict_and_hides_none(merged, verdicts, kinds, sign, undeclared, words):
    changed, column = with_verdicts(merged, DEVIATING, **verdicts)
    shown = matrix_page.cell(changed, DEVIATING, column)
    assert (shown.kinds, shown.sign, shown.undeclared, shown.words) == (kinds, sign, undeclared, words)
    assert [spoken.replace(" ", "-") for _, spoken in shown.also] == list(kinds[1:])


def test_titles_are_in_words_the_gravest_first(merged):
    changed, column = with_verdicts(
        merged,
        DEVIATING,
        float64={"kind": Kind.CONFORMS, "found": "stable"},
        float32={"kind": Kind.DEVIATES, "rival": "A", **DECLARED},
        bfloat16={"kind": Kind.NOT_OFFERED},
        float16={"kind": Kind.INCONCLUSIVE, **NEWS},
    )
    assert matrix_page.cell(changed, DEVIATING, column).title.split("; ") == [
        "deviates: A, as declared [f32]",
        "inconclusive, not as declared [f16]",
        "conforms (stable) [f64]",
        "not offered [bf16]",
    ]


def test_what_is_not_as_declared_needs_no_colour(merged):
    changed, _ = with_verdicts(merged, DEVIATING, float32={"kind": Kind.CONFORMS, **STALE})
    row = matrix_page.html(changed).split(f'data-claim="{DEVIATING}"')[1].split("</td>")[0]
    assert 'aria-label="conforms">✓</span> <span class="news" role="img" aria-label="not as declared">!!</span>' in row
    assert 'title="conforms, not as declared"' in row


def test_the_dtypes_of_a_column_stand_in_its_head(merged):
    changed, column = with_verdicts(merged, DEVIATING, float16={"kind": Kind.CONFORMS})
    assert matrix_page.checked(changed, column) == ["float32", "float16"]
    assert "<small>f32 f16</small>" in matrix_page.html(changed)


def test_what_is_no_number_is_said_in_words(merged):
    (outcome, *_) = merged.outcomes.values()
    seen = Counterexample(case="Case()", experiment="train", quantity="y", index=(0, 1), got=3, expected=2, bound=0.5)
    for changed, words in (
        (seen, "y[0, 1] is 3, expected 2 within 0.5: 2 bounds off (train)"),
        (replace(seen, got=math.nan), "y[0, 1] is not a number, expected 2 within 0.5 (train)"),
        (replace(seen, got=-math.inf), "y[0, 1] is -infinite, expected 2 within 0.5 (train)"),
        (replace(seen, bound=0.0, experiment=""), "y[0, 1] is 3, expected 2 within 0"),
    ):
        assert matrix_page._verdict(replace(outcome, counterexample=changed))["seen"] == words


def test_errors_against_a_rival_are_not_told(merged):
    (outcome, *_) = merged.outcomes.values()
    worst = {"y": 0.25, "dx": math.inf}
    fails = matrix_page._verdict(replace(outcome, kind=Kind.FAILS, worst=worst))
    assert fails["worst"] == "y 0.25, dx infinite"
    assert "worst" not in matrix_page._verdict(replace(outcome, kind=Kind.DEVIATES, worst=worst))


@pytest.mark.parametrize(
    ("backend", "profile", "seed", "command"),
    [
        ("torch", "default", "20150211", "normspec --backend torch"),
        ("torch", "quick", "20150211", "normspec --backend torch --profile quick"),
        ("mine", "thorough", "7", "normspec --backend path/to/adapter.py --profile thorough --seed 7"),
    ],
)
def test_the_command_asks_what_the_run_asked(merged, backend, profile, seed, command):
    column = merged.columns[0]
    settings = {**column.settings, "profile": profile, "seed": seed}
    assert matrix_page._again(replace(column, backend=backend, settings=settings)) == command


def test_what_is_to_be_seen_again(merged):
    changed, _ = with_verdicts(
        merged,
        DEVIATING,
        float64={"kind": Kind.DEVIATES, "rival": "A", **DECLARED},
        float32={"kind": Kind.CRASHED, **DECLARED},
        bfloat16={"kind": Kind.CONFORMS},
        float16={"kind": Kind.CONFORMS, **STALE},
    )
    told = matrix_page.data(changed)["cells"][f"{DEVIATING} 0"]
    assert [verdict["dtype"] for verdict in told if verdict.get("again")] == ["float32", "float16"]


def test_the_script_is_that_of_the_gravest_verdict(merged, tmp_path):
    changed, column = with_verdicts(
        merged,
        DEVIATING,
        float64={"kind": Kind.DEVIATES, "rival": "A", **DECLARED},
        float32={"kind": Kind.CRASHED, **DECLARED},
    )
    (tmp_path / "a.py").write_text("")
    scripts = {(DEVIATING, dtype): tmp_path / "a.py" for dtype in ("float64", "float32")}
    changed = replace(changed, columns=(replace(column, scripts=scripts), *changed.columns[1:]))
    assert matrix_page.data(changed)["scripts"]["cells"][f"{DEVIATING} 0"][:2] == ["float32", "a.py"]


# -- conversions and plots --------------------------------------------------------------------------------------------


def test_what_follows_no_known_formula_is_like_nothing_else(merged):
    ours = merged.columns[0]
    alike = [replace(ours, id=name) for name in ("a", "b")]
    assert pairs.pairs(alike) == []
    assert ours.conventions is not None
    facts = [
        replace(fact, findings=tuple(replace(f, status=UNKNOWN) for f in fact.findings))
        for fact in ours.conventions.facts
    ]
    conduct = dict.fromkeys(ours.conventions.conduct, Conduct())
    unknown = replace(ours.conventions, facts=facts, conduct=conduct)
    found = pairs.pairs([replace(column, conventions=unknown) for column in alike])
    assert [(pair.sources, pair.targets) for pair in found] == [(("a",), ("b",)), (("b",), ("a",))]
    assert all(conversion.obstacles for pair in found for conversion in pair.conversions)


def test_a_conversion_that_does_not_verify_is_said_not_shown():
    verification = Verification(("float32",), (2,), 3, 7.0, "y differs by 7 bounds on Case()")
    conversion = Conversion("a", "b", (Conduct(), Conduct()), None, None, None, None, verification=verification)
    told = matrix_page._conversion(conversion)
    assert told["words"] == "does not verify: y differs by 7 bounds on Case()"
    assert not told["verified"]
    assert not told["python"]
    assert matrix_page._conversion(replace(conversion, verification=Verification()))["words"] == ""


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ("....", "nowhere"),
        ("..xx", "from 2^2 on"),
        (".xx.", "from 2^1 to 2^2"),
        ("x.x.", "at 2^0, at 2^2"),
        ("x..x", "at 2^0, from 2^3 on"),
        ("xxxx", "from 2^0 on"),
    ],
)
def test_where_the_error_is_over_its_bound(over, words):
    assert plots._beyond([(2.0**i, 2.0 if sign == "x" else 0.5) for i, sign in enumerate(over)]) == words


def test_the_medians_of_plot_and_table_are_the_same():
    assert plots._at([1, 2, 3, 4], 0.5) == 3
    assert plots._at([1, 2, 3, 4, 5, 6], 0.5) == 3
    assert plots._at([1], 0.5) == plots._at([1], 0.9) == 1


def test_two_drawings_on_a_page_share_no_id_and_take_its_colour(page):
    pytest.importorskip("matplotlib")
    one, other = drawn("a", {"x <i>": [1.0, 2.0]}), drawn("b", {"x <i>": [1.0, 2.0]})
    ids = [set(re.findall(r'\sid="([^"]+)"', svg)) for svg in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, its in zip((one, other), ids, strict=True):
        assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) <= its
    assert "fill: currentColor" in one
    every = re.findall(r'\sid="([^"]+)"', page.split('id="data"')[0])
    assert len(every) == len(set(every))


# -- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-quic"])
        yield chromium
        chromium.close()


@pytest.fixture
def view(browser, page, tmp_path):
    """Opens the page, or another text, with an address's hash; fails where the page's script does."""
    opened = []

    def view(address="", text=page, **context):
        (tmp_path / "page.html").write_text(text, encoding="utf-8")
        tab = browser.new_context(**context).new_page()
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        tab.on(
            "request",
            lambda asked: None if asked.url.startswith(("file:", "data:", "blob:")) else errors.append(asked.url),
        )
        tab.goto(f"{(tmp_path / 'page.html').as_uri()}{address}")
        opened.append(SimpleNamespace(tab=tab, errors=errors))
        return tab

    yield view
    for one in opened:
        assert one.errors == []
        one.tab.context.close()


def rows(tab):
    return tab.locator("tr[data-claim]:visible").count()


def test_a_cell_opens_by_keyboard_and_gives_the_focus_back(view):
    tab = view()
    first = tab.locator("td button").first
    first.focus()
    tab.keyboard.press("ArrowRight")
    for _ in range(3):
        tab.keyboard.press("ArrowDown")
    chosen = tab.evaluate("document.activeElement.closest('tr').dataset.claim")
    assert chosen == tab.locator("tr[data-claim]").nth(3).get_attribute("data-claim")
    tab.keyboard.press("Enter")
    dialog = tab.locator("dialog[open]")
    assert chosen in dialog.inner_text()
    assert CLAIMS[chosen].text in dialog.inner_text()
    tab.keyboard.press("Escape")
    assert dialog.count() == 0
    assert tab.evaluate("document.activeElement.closest('tr').dataset.claim") == chosen
    assert tab.locator("td button[tabindex='0']").count() == 1


def test_a_deviation_opens_to_case_and_script(view):
    tab = view(f"#cell={DEVIATING}+keras_like")
    told = tab.locator("dialog[open]").inner_text()
    for words in (
        "population variance, divisor m",
        "Case(dtype='float32'",
        "bounds off",
        f"normspec --backend path/to/adapter.py --profile quick --claim {DEVIATING} --dtype float32",
        "path/to/adapter.py stands for the adapter's file.",
    ):
        assert words in told
    tab.locator("dialog summary").click()
    assert "spec_compare" in tab.locator("dialog pre").last.inner_text()


def test_filters_leave_what_is_asked_for_and_stand_in_the_address(view):
    tab = view()
    every = rows(tab)
    tab.fill("input[name=q]", "running.")
    assert 0 < rows(tab) < every
    tab.select_option("select[name=v]", "undeclared")
    left = rows(tab)
    assert 0 < left < every
    assert f"{left} of {every} claims" in tab.locator("output[name=count]").inner_text()
    tab.fill("input[name=b]", "numpy")
    assert rows(tab) == 0
    assert tab.locator("#empty").is_visible()
    assert not tab.locator("#table").is_visible()
    tab.reload()
    assert tab.input_value("input[name=q]") == "running."
    assert rows(tab) == 0
    tab.click("text=Show all")
    tab.wait_for_function(
        "document.querySelector('output').value.startsWith(" + json.dumps(f"{every} of {every}") + ")"
    )


def test_only_rows_that_differ(view):
    tab = view("#d=1")
    assert DEVIATING in tab.locator("tr[data-claim]:visible").all_inner_texts().__str__()
    assert all(
        len(set(t)) == 2
        for t in tab.evaluate(
            "[...document.querySelectorAll('tr[data-claim]')].filter(r => !r.hidden)"
            ".map(r => [...r.querySelectorAll('button')].map(b => b.title))"
        )
    )


def test_two_backends_are_compared_with_their_conversion(view):
    tab = view("#compare")
    told = tab.locator("#compared").inner_text()
    for words in ("biased (divisor m)", "momentum = 1 - momentum", "verified on", DEVIATING):
        assert words in told
    assert "normspec_a" not in tab.locator("#compared").text_content()
    before = tab.locator("#compared h3").all_inner_texts()
    tab.click("button[name=swap]")
    assert tab.locator("#compared h3").all_inner_texts() != before
    assert "x=keras_like" in tab.url


def test_hostile_words_stay_words(view, merged):
    tab = view(text=matrix_page.html(hostile(merged)))
    tab.locator(f"tr[data-claim='{DEVIATING}'] td button").last.click()
    assert HOSTILE in tab.locator("dialog[open]").inner_text()
    assert tab.locator("img").count() == 0
    assert "hacked" not in tab.title()


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_sticks_out(view, width):
    tab = view(viewport={"width": width, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_the_table_is_there(view):
    tab = view(java_script_enabled=False)
    assert rows(tab) > 10
    assert not tab.locator("#filters").is_visible()
    assert tab.locator("button:visible").count() == 0
    assert tab.locator("td[title]").count() == tab.locator("td[data-k]").count()


@pytest.mark.parametrize(
    "address",
    [
        "#x=torch+2.12.0",
        "#x=keras_like&y=gone",
        f"#y=gone&cell={DEVIATING}+keras_like",
        "#v=foo",
        "#v=constructor&d=maybe",
        "#cell=constructor+keras_like",
        "#cell=%E0%A4%A",
    ],
)
def test_an_address_that_is_out_of_date_breaks_nothing(view, address):
    tab = view(address)
    assert rows(tab) == tab.locator("tr[data-claim]").count()
    assert tab.locator("dialog[open]").count() == ("cell=running" in address)
    assert "They differ in" in tab.locator("output[name=told]").inner_text()
    assert tab.locator("#compared h3").count() > 2


def test_what_filters_leave_can_be_reached_by_keyboard(view):
    tab = view("#v=undeclared&b=keras")
    reached = tab.locator("td button[tabindex='0']")
    assert reached.count() == 1
    assert reached.is_visible()
    tab.focus(".scroll")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.closest('td').classList.contains('undeclared')")
    tab.click("text=Show all")
    assert tab.locator("td button[tabindex='0']").count() == 1


@pytest.mark.parametrize("width", [360, 1000])
def test_the_focused_cell_is_not_covered(view, width):
    tab = view(viewport={"width": width, "height": 420})
    tab.locator("td button").first.focus()
    for key in [*["ArrowDown"] * 15, "End", *["ArrowUp"] * 15, "Home"]:
        tab.keyboard.press(key)
        assert tab.evaluate(
            """() => {
                const place = document.activeElement.getBoundingClientRect();
                const corner = document.querySelector("thead th").getBoundingClientRect();
                return place.top >= corner.bottom - 1 && place.left >= corner.right - 1;
            }"""
        ), key


def test_the_focus_is_never_lost_with_the_dialog(view):
    tab = view(f"#q=precision&cell={DEVIATING}+keras_like")
    inside = "document.activeElement.closest('td') !== null"
    tab.keyboard.press("Escape")
    tab.wait_for_function(inside)
    tab.keyboard.press("Enter")
    assert tab.locator("dialog[open]").count() == 1
    tab.evaluate("location.hash = '#q=precision'")
    tab.wait_for_function("!document.querySelector('dialog').open")
    tab.wait_for_function(inside)
    empty = view(f"#q=nothing-is-like-that&cell={DEVIATING}+keras_like")
    empty.keyboard.press("Escape")
    empty.wait_for_function("document.activeElement.name === 'q'")


def test_cells_have_names_in_words(view):
    tab = view()
    row = tab.locator(f"tr[data-claim='{DEVIATING}'] td button")
    names = [re.search(r'button "(.*)"', button.aria_snapshot())[1] for button in row.all()]
    assert names == ["conforms", "deviates not as declared population variance, divisor m"]


def test_filters_find_what_a_graver_verdict_stands_before(view, merged):
    changed, _ = with_verdicts(merged, DEVIATING, float64={"kind": Kind.CONFORMS}, float32={"kind": Kind.INCONCLUSIVE})
    tab = view("#v=open&q=running.sample", matrix_page.html(changed))
    assert rows(tab) == 1
    tab.select_option("select[name=v]", "not-offered")
    assert rows(tab) == 0


def test_two_are_compared_in_the_dtypes_of_both(view, merged):
    changed, _ = with_verdicts(
        merged, DEVIATING, float64={"kind": Kind.FAILS}, float32={"kind": Kind.DEVIATES, "rival": "A"}
    )
    changed.outcomes[DEVIATING, changed.columns[1].id, "float32"] = replace(
        changed.outcomes[DEVIATING, changed.columns[1].id, "float32"], kind=Kind.DEVIATES, rival="A"
    )
    tab = view(text=matrix_page.html(changed))
    told = tab.locator("#compared").inner_text()
    assert "Compared in f32." in told
    assert f"Only {changed.columns[0].id} was checked in f64." in told
    assert DEVIATING not in tab.locator("#compared table").last.inner_text()
    tab.check("input[name=d]")
    assert not tab.locator(f"tr[data-claim='{DEVIATING}']").is_visible()


def test_only_a_comparison_that_was_asked_for_is_printed(view):
    tab = view()
    tab.emulate_media(media="print")
    assert not tab.locator("#compared").is_visible()
    tab = view("#x=keras_like")
    tab.emulate_media(media="print")
    assert tab.locator("#compared").is_visible()
