"""Runs merged into one matrix: what belongs together, what changed since a baseline, conversions between columns."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import pytest
from conftest import ADAPTERS, QUICK, SUITE

from normspec.conformance.command import main
from normspec.conformance.reports import changes, pairs
from normspec.conformance.reports.cells import Cell
from normspec.conformance.reports.matrix import Matrix
from normspec.conformance.reports.merged import gather, read
from normspec.conformance.reports.outcomes import BadResults

SCHEMA = json.loads((SUITE / "reports/matrix.schema.json").read_text(encoding="utf-8"))
SOME = ("--claim", "running.*", "--claim", "precision.cancellation", "--dtype", "float32", "--dtype", "float64")
DAY = date(2026, 11, 23)
CLAIM = "running.sample-variance"
POPULATION = "population variance, divisor m"


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
    """Writes a copy of the results, with all changes made, into a folder of its own."""

    def other(*made, folder="changed"):
        plain = json.loads((runs / "ours" / "results.json").read_text(encoding="utf-8"))
        for change in made:
            change(plain)
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "results.json").write_text(json.dumps(plain), encoding="utf-8")
        return tmp_path / folder

    return other


def assigned(**values):
    return lambda plain: plain.update(values)


def version(number):
    return lambda plain: plain["backends"][0].update(version=number)


def verdict(told, dtype="float32", **values):
    """Another verdict on CLAIM: "*" is one that is as declared, "?" one that cannot be reached."""
    kind = "inconclusive" if told == "?" else told.removesuffix("*")
    values = {
        "declared": "it" if told.endswith("*") else "",
        "expected": told != kind or kind in ("conforms", "not offered"),
        **values,
    }

    def change(plain):
        for cell in plain["cells"]:
            if (cell["claim"], cell["dtype"]) == (CLAIM, dtype):
                cell.update(values)
                cell["verdict"].update(kind=kind, rival=POPULATION if kind == "deviates" else "")

    return change


def lost(plain):
    plain["cells"] = [c for c in plain["cells"] if (c["claim"], c["dtype"]) != (CLAIM, "float32")]


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


def test_its_columns_have_as_much_of_the_path_as_tells_them_apart(other):
    folders = [other(folder=folder) for folder in ("x1/r", "x2/r", "y")]
    found = gather(folders)
    assert [c.id.partition(" (")[2] for c in found.columns] == ["x1/r)", "x2/r)", "y)"]


def test_files_of_one_folder_have_their_names_beside_it(other):
    folder = other()
    shutil.copy(folder / "results.json", folder / "again.json")
    assert [c.id.partition(" (")[2] for c in gather([folder]).columns] == ["again.json)", "changed)"]


def test_the_order_of_folders_decides_nothing(other):
    folders = [other(folder="x1/r"), other(lost, folder="x2/r")]
    there, back = gather(folders, made=DAY), gather(folders[::-1], made=DAY)
    assert back.json() == there.json()
    assert changes.changes(there, back) == []


def test_a_run_that_is_named_twice_is_one(runs, merged):
    assert gather([runs, runs / "ours" / ".." / "theirs"], made=DAY).json() == merged.json()


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        (("conforms", "deviates"), f"deviates: {POPULATION} [f32]; conforms [f64]"),
        (("conforms", "deviates*"), f"deviates: {POPULATION} * [f32]; conforms [f64]"),
        (("conforms", "fails*"), "fails * [f32]; conforms [f64]"),
        (("deviates*", "inconclusive"), f"deviates: {POPULATION} * [f64]; inconclusive [f32]"),
        (("conforms", "inconclusive"), "inconclusive [f32]; conforms [f64]"),
        (("?", "conforms"), "conforms [f32]; ? [f64]"),
        (("not offered", "fails"), "fails [f32]; - [f64]"),
        (("not offered", "conforms"), "conforms [f32]; - [f64]"),
    ],
)
def test_a_cell_tells_the_gravest_first(other, kinds, told):
    folder = other(verdict(kinds[0], "float64"), verdict(kinds[1], "float32"))
    found = gather([folder])
    assert found.text(CLAIM, found.columns[0].id) == told
    cells = json.loads((folder / "results.json").read_text(encoding="utf-8"))["cells"]
    suite = SimpleNamespace(backends=[SimpleNamespace(name="numpy")])
    assert Matrix(suite, map(Cell.from_serializable, cells)).text(CLAIM, "numpy") == told


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


@pytest.mark.parametrize(
    "text",
    [
        '{"conversions": []}',
        '{"conversions": [], "backends": [{"name": "numpy"}]}',
        '{"conversions": [], "backends": 5}',
    ],
)
def test_conventions_that_cannot_be_read_are_told(other, text):
    folder = other()
    (folder / "conventions.json").write_text(text)
    with pytest.raises(BadResults, match=r"conventions\.json is not what this normspec's `conventions --json` writes"):
        gather([folder])


def test_a_place_that_is_not_there_is_told(tmp_path):
    with pytest.raises(BadResults, match="There is no"):
        gather([tmp_path / "nowhere"])


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 9}', '{"schema": 1}'])
def test_a_baseline_that_is_none_is_told(tmp_path, text):
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(BadResults, match=r"is not what `normspec matrix --json FILE` writes"):
        read(tmp_path / "old.json")


# -- changes ----------------------------------------------------------------------------------------------------------


def changed(runs, merged, *folders):
    return changes.changes(merged, gather([*folders, runs / "theirs"], made=DAY))


def test_nothing_changes_between_equal_runs(runs, merged):
    assert changes.changes(merged, gather([runs])) == []


@pytest.mark.parametrize(("expected", "unexpected"), [(True, 0), (False, 1)])
def test_a_change_is_unexpected_unless_it_is_as_declared(runs, merged, other, expected, unexpected):
    found = changed(runs, merged, other(verdict("deviates", expected=expected, declared="it")))
    assert [(c.claim, c.dtype, c.was) for c in found] == [(CLAIM, "float32", "conforms")]
    assert len(changes.unexpected(found)) == unexpected
    assert changes.told(found)[1].startswith("  ! " if unexpected else "    ")


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("conforms", "not offered", "conforms -> -"),
        ("deviates", "not offered", f"deviates: {POPULATION} -> -"),
        ("crashed", "not offered", "crashed -> -"),
        ("?", "not offered", "? -> -"),
        ("conforms", "?", "conforms -> ?"),
        ("deviates", "?", f"deviates: {POPULATION} -> ?"),
    ],
)
def test_what_is_no_longer_offered_or_decided_is_unexpected(other, was, now, told):
    old, new = (gather([other(verdict(kind))]) for kind in (was, now))
    found = changes.changes(old, new)
    assert [c.expected for c in found] == [False]
    assert changes.told(found)[1] == f"  ! {CLAIM} [f32]: {told}"


def test_it_is_expected_where_the_adapter_declares_it(other):
    old, new = gather([other()]), gather([other(verdict("not offered*"))])
    assert [c.expected for c in changes.changes(old, new)] == [True]


def test_a_backend_that_stops_offering_everything_fails_the_command(runs, merged, other, tmp_path, capsys):
    def change(plain):
        for cell in plain["cells"]:
            cell.update(expected=True, declared="")
            cell["verdict"].update(kind="not offered", rival="")

    (tmp_path / "old.json").write_text(merged.json(), encoding="utf-8")
    assert main(["matrix", str(other(change)), str(runs / "theirs"), "--baseline", str(tmp_path / "old.json")]) == 1
    assert f"! {CLAIM} [f64 f32]: conforms -> -\n" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["deviates", "fails"])
def test_an_improvement_on_what_nobody_declared_is_listed_and_passes(other, kind):
    old, new = gather([other(verdict(kind))]), gather([other()])
    assert [(c.now, c.expected) for c in changes.changes(old, new)] == [("conforms", True)]


@pytest.mark.parametrize("was", ["conforms", "deviates*"])
def test_a_declaration_that_is_stale_is_unexpected(other, was):
    old = gather([other(verdict(was))])
    new = gather([other(verdict("conforms", declared="it", expected=False))])
    assert [(c.now, c.expected) for c in changes.changes(old, new)] == [("conforms, declared otherwise", False)]


def test_a_verdict_that_is_lost_is_unexpected(runs, merged, other):
    found = changed(runs, merged, other(lost))
    assert [(c.claim, c.was, c.now, c.expected) for c in found] == [(CLAIM, "conforms", "", False)]


def test_a_verdict_on_a_claim_that_is_no_longer_made_is_lost(merged):
    one = replace(merged.outcomes[CLAIM, merged.columns[0].id, "float32"], claim="running.no-longer-made")
    gone = {(one.claim, merged.columns[0].id, one.dtype): one}
    found = changes.changes(replace(merged, outcomes={**gone, **merged.outcomes}), merged)
    assert [(c.claim, c.was, c.now, c.expected) for c in found] == [(one.claim, "conforms", "", False)]


@pytest.mark.parametrize("loser", ["h1", "h2"])
def test_a_verdict_that_one_of_two_runs_has_lost_is_lost(runs, merged, other, loser):
    folders = [other(lost if name == loser else assigned(), folder=name) for name in ("h1", "h2")]
    found, before = changed(runs, merged, *folders), merged.columns[0].id
    assert [(c.column, c.claim, c.now, c.since) for c in found] == [(f"{before} ({loser})", CLAIM, "", before)]
    assert not found[0].expected


def test_a_column_that_is_lost_is_unexpected_and_told_as_a_whole(runs, merged):
    found = changes.changes(merged, gather([runs / "ours"]))
    assert len(changes.unexpected(found)) == len(found) > 10
    assert changes.told(found) == [f"! keras_like: {len(found)} verdicts are lost"]


def test_a_new_version_is_compared_with_the_latest_before_it(runs, merged, other):
    found = changed(runs, merged, other(version("99.0"), verdict("deviates")))
    assert [(c.column, c.since) for c in found] == [("numpy 99.0", merged.columns[0].id)]


def versions(other, numbers, **made):
    """A matrix of versions of one backend; `made` changes some, as v10=lost."""
    return gather([other(version(n), made.get(f"v{n}", assigned()), folder=n) for n in numbers])


@pytest.mark.parametrize(
    ("old", "new", "loses", "found"),
    [
        (["2"], ["1", "2"], "2", ("numpy 2", "")),  # an older one is added
        (["2"], ["1", "2"], "1", None),
        (["2"], ["2", "3"], "3", None),  # a newer one is added
        (["1", "2"], ["2", "3"], "3", ("numpy 3", "numpy 1")),  # the older one of two is bumped
        (["1", "9"], ["2", "10"], "2", ("numpy 2", "numpy 1")),  # both are
        (["1", "9"], ["2", "10"], "10", ("numpy 10", "numpy 9")),
        (["1"], ["2", "3"], "2", ("numpy 2", "numpy 1")),  # one becomes two
        (["1"], ["2", "3"], "3", ("numpy 3", "numpy 1")),
    ],
)
def test_a_lost_verdict_is_found_whichever_versions_come_and_go(other, old, new, loses, found):
    seen = changes.changes(versions(other, old), versions(other, new, **{f"v{loses}": lost}))
    assert [(c.column, c.since) for c in seen] == ([found] if found else [])


def test_each_version_is_compared_with_the_latest_before_it(other):
    deviates = verdict("deviates")
    old = versions(other, ["1", "9"], v1=deviates)
    assert changes.changes(old, versions(other, ["2", "10"], v2=deviates)) == []
    found = changes.changes(old, versions(other, ["9", "10"], v10=deviates))
    assert [(c.column, c.since, c.expected) for c in found] == [("numpy 10", "numpy 9", False)]


@pytest.mark.parametrize(("old", "new"), [(["1", "2"], ["2"]), (["1", "2"], ["3"]), (["1"], ["0"])])
def test_a_version_whose_place_none_takes_is_lost_as_a_whole(other, old, new):
    found = changes.changes(versions(other, old), versions(other, new))
    assert changes.told(found) == [f"! numpy 1: {len(found)} verdicts are lost"]
    assert len(found) == len(versions(other, ["1"]).outcomes)


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
