"""Runs merged into one matrix: what belongs together, what changed since a baseline, conversions between columns."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import date

import pytest
from conftest import ADAPTERS, QUICK, SUITE

from normspec.conformance import changes, pairs
from normspec.conformance.command import main
from normspec.conformance.merged import gather, read
from normspec.conformance.outcomes import BadResults

SCHEMA = json.loads((SUITE / "matrix.schema.json").read_text(encoding="utf-8"))
SOME = ("--claim", "running.*", "--claim", "precision.cancellation", "--dtype", "float32", "--dtype", "float64")
DAY = date(2026, 11, 23)
CLAIM = "running.sample-variance"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What `normspec record` leaves: the reference's own conventions in one folder, Keras's in another."""
    folder = tmp_path_factory.mktemp("runs")
    for name, backend in (("ours", "numpy"), ("theirs", str(ADAPTERS / "keras_like.py"))):
        command = [sys.executable, "-m", "normspec", "record", name, backend, *SOME, *QUICK]
        subprocess.run(command, cwd=folder, capture_output=True, check=False)
    return folder


@pytest.fixture(scope="module")
def merged(runs):
    return gather([runs], made=DAY)


@pytest.fixture
def other(runs, tmp_path):
    """Writes a changed copy of the results into a folder of its own."""

    def other(change, name="ours"):
        plain = json.loads((runs / name / "results.json").read_text(encoding="utf-8"))
        change(plain)
        (tmp_path / "changed").mkdir(exist_ok=True)
        (tmp_path / "changed" / "results.json").write_text(json.dumps(plain), encoding="utf-8")
        return tmp_path / "changed"

    return other


def assigned(**values):
    return lambda plain: plain.update(values)


def verdict_of(plain, **values):
    for cell in plain["cells"]:
        if (cell["claim"], cell["dtype"]) == (CLAIM, "float32"):
            cell.update({k: v for k, v in values.items() if k in cell})
            cell["verdict"].update({k: v for k, v in values.items() if k in cell["verdict"]})


# -- merging ----------------------------------------------------------------------------------------------------------


def test_a_run_leaves_all_that_a_matrix_is_made_of(runs):
    assert {p.name for p in (runs / "theirs").iterdir()} == {"results.json", "conventions.json", "scripts"}
    assert (runs / "theirs" / "scripts" / "running_sample_variance_keras_like_float32.py").exists()
    told = json.loads((runs / "ours" / "conventions.json").read_text(encoding="utf-8"))
    assert told["backends"][0]["dtypes"] == ["float64", "float32"]  # as asked: NumPy offers float16, too


def test_every_backend_has_a_column_and_every_verdict_a_cell(merged, runs):
    assert [c.backend for c in merged.columns] == ["numpy", "keras_like"]
    cells = sum(len(json.loads(p.read_text())["cells"]) for p in runs.glob("*/results.json"))
    assert len(merged.outcomes) == cells
    assert merged.text(CLAIM, "keras_like") == "deviates: population variance, divisor m"
    assert merged.columns[1].facts["variance that is tracked"] == "biased (divisor m)"
    assert (CLAIM, "float32") in merged.columns[1].scripts


def test_json_is_as_the_schema_says(merged):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads(merged.json()), SCHEMA)


def test_json_is_read_as_it_was_written(merged, tmp_path):
    (tmp_path / "m.json").write_text(merged.json(), encoding="utf-8")
    again = read(tmp_path / "m.json")
    assert again.json() == replace(merged, columns=tuple(replace(c, conventions=None) for c in merged.columns)).json()
    assert changes.changes(merged, again) == []


def test_the_same_runs_give_the_same_bytes(runs, merged):
    assert gather([runs / "theirs", runs / "ours"], made=DAY).json() == merged.json()


def test_one_backend_and_version_in_two_runs_has_two_columns(runs, other):
    found = gather([runs, other(assigned(platform="elsewhere"))])
    assert [c.id.partition("(")[2] for c in found.columns] == ["changed)", "ours)", ""]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"profile": "thorough"}, "profile thorough"),
        ({"seed": 7}, "seed 7"),
        ({"normspec": "0.0.9"}, r"normspec 0\.0\.9"),
        ({"claims": "0" * 16}, "other claims, rivals or cases"),
    ],
)
def test_runs_that_did_not_ask_the_same_are_refused_or_marked(runs, other, change, told):
    places = [runs, other(assigned(**change))]
    with pytest.raises(BadResults, match=f"did not ask what the others did .*changed.*{told}.*--mixed"):
        gather(places)
    columns = gather(places, mixed=True).columns
    assert [bool(c.notes) for c in columns] == ["changed" in c.id for c in columns]


def test_other_versions_of_what_draws_the_cases_are_noted(runs, other):
    for column in gather([runs, other(assigned(hypothesis="6.0"))]).columns:
        noted = [note for note in column.notes if note.startswith("cases drawn by Hypothesis 6.0, elsewhere ")]
        assert len(noted) == len(column.notes) == ("changed" in column.id)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "no results in"),
        ({"results.json": "{"}, "is not JSON: was its run cut off"),
        ({"results.json": '{"cells": []}'}, "is not what `pytest conformance --results FILE` writes"),
        ({"other.json": "[1]"}, "no results in"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, files, told):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(BadResults, match=told):
        gather([tmp_path])


def test_a_place_that_is_not_there_is_told(tmp_path):
    with pytest.raises(BadResults, match="There is no"):
        gather([tmp_path / "nowhere"])


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 9}', '{"schema": 1}'])
def test_a_baseline_that_is_none_is_told(tmp_path, text):
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(BadResults, match=r"is not what `normspec matrix --json FILE` writes"):
        read(tmp_path / "old.json")


# -- changes ----------------------------------------------------------------------------------------------------------


def changed(runs, merged, folder):
    return changes.changes(merged, gather([folder, runs / "theirs"], made=DAY))


def test_nothing_changes_between_equal_runs(runs, merged):
    assert changes.changes(merged, gather([runs])) == []


@pytest.mark.parametrize(("expected", "unexpected"), [(True, 0), (False, 1)])
def test_a_change_is_unexpected_unless_it_is_as_declared(runs, merged, other, expected, unexpected):
    def change(plain):
        verdict_of(plain, kind="deviates", rival="population variance, divisor m", expected=expected, declared="it")

    found = changed(runs, merged, other(change))
    assert [(c.claim, c.dtype, c.was) for c in found] == [(CLAIM, "float32", "conforms")]
    assert len(changes.unexpected(found)) == unexpected
    assert changes.told(found)[1].startswith("  ! " if unexpected else "    ")


def test_a_verdict_that_is_lost_is_unexpected(runs, merged, other):
    def change(plain):
        plain["cells"] = [c for c in plain["cells"] if (c["claim"], c["dtype"]) != (CLAIM, "float32")]

    found = changed(runs, merged, other(change))
    assert [(c.claim, c.was, c.now, c.expected) for c in found] == [(CLAIM, "conforms", "", False)]


def test_a_column_that_is_lost_is_unexpected_and_told_as_a_whole(runs, merged):
    found = changes.changes(merged, gather([runs / "ours"]))
    assert len(changes.unexpected(found)) == len(found) > 10
    assert changes.told(found) == [f"! keras_like: {len(found)} verdicts are lost"]


def test_a_new_version_is_compared_with_the_latest_before_it(runs, merged, other):
    def change(plain):
        plain["backends"][0]["version"] = "99.0"
        verdict_of(plain, kind="deviates", rival="population variance, divisor m", expected=False)

    found = changed(runs, merged, other(change))
    assert [(c.column, c.since) for c in found] == [("numpy 99.0", merged.columns[0].id)]


def test_a_version_that_is_dropped_beside_a_newer_one_is_lost(runs, merged, other):
    def older(plain):
        plain["backends"][0]["version"] = "0.1"

    old = gather([other(older), runs])
    assert {c.column for c in changes.changes(old, merged)} == {"numpy 0.1"}


def test_a_new_backend_is_news_only_where_it_deviates_undeclared(runs, merged):
    found = changes.changes(gather([runs / "ours"]), merged)
    assert {c.column for c in found} == {"keras_like"}
    assert {c.was for c in found} == {""}
    assert not any(c.expected for c in found)


# -- conversions ------------------------------------------------------------------------------------------------------


def test_columns_that_differ_are_converted_both_ways_and_verified(merged):
    found = pairs.pairs(merged.columns)
    ids = [c.id for c in merged.columns]
    assert [(p.sources, p.targets) for p in found] == [((ids[0],), (ids[1],)), ((ids[1],), (ids[0],))]
    for pair in found:
        assert [c.verification.holds for c in pair.conversions] == [True]
        assert "momentum = 1 - momentum" in pair.conversions[0].snippet
        assert f"from_{pairs.A}_to_{pairs.B}_training" in pair.conversions[0].snippet


def test_columns_that_do_the_same_need_no_conversion(merged):
    assert pairs.pairs([merged.columns[0], replace(merged.columns[0], id="again")]) == []


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_merges_and_compares(runs, tmp_path, capsys):
    matrix, page = tmp_path / "deep" / "m.json", tmp_path / "m.md"
    assert main(["matrix", str(runs), "--json", str(matrix), "--markdown", str(page)]) == 0
    assert page.read_text(encoding="utf-8").startswith("# Conformance")
    capsys.readouterr()
    assert main(["matrix", str(runs), "--baseline", str(matrix)]) == 0
    assert "Nothing changed" in capsys.readouterr().out
    assert main(["matrix", str(runs / "ours"), "--baseline", str(matrix)]) == 1
    assert "(!) undeclared" in capsys.readouterr().out


def test_a_baseline_of_other_cases_is_told_of(runs, merged, tmp_path, capsys):
    old = replace(merged, settings={**merged.settings, "claims": "0" * 16})
    (tmp_path / "old.json").write_text(old.json(), encoding="utf-8")
    assert main(["matrix", str(runs), "--baseline", str(tmp_path / "old.json")]) == 0
    assert "was asked otherwise (claims 0000000000000000)" in capsys.readouterr().out


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["matrix", str(tmp_path)])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("normspec matrix: There are no results in")
