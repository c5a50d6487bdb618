"""The matrix page: complete without scripts, safe with hostile names, and usable in a real browser."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import pytest
from conftest import ADAPTERS, QUICK

from normspec.conformance import matrix_page
from normspec.conformance.claims import CLAIMS
from normspec.conformance.merged import Merged, gather

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


def embedded(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


# -- what is in the file ----------------------------------------------------------------------------------------------


def test_without_scripts_every_verdict_can_be_read(merged, page):
    for claim in merged.claims:
        assert f"<b>{claim}</b>" in page
    assert page.count("<td ") >= len(merged.claims) * 2
    assert 'title="deviates: population variance, divisor m"' in page


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
        "normspec --backend keras_like",
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
    assert f"{left} of {every} claims" in tab.locator("output").inner_text()
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
