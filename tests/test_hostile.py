"""A hostile backend costs its own cells alone: each is told, and every other verdict is the same and written."""

import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
from conftest import ADAPTERS, QUICK, SUITE, several

from normspec.conformance.cases.arithmetic import DTYPES, numpy_dtype
from normspec.conformance.cases.cases import LAYOUTS, laid_out
from normspec.conformance.trials.adapters import Crashed, Hung
from normspec.conformance.trials.isolation import Isolated, Limits

CLAIMS = ("normalize.centered", "evaluate.folded", "hygiene.empty-batch", "affine.defaults")
CHOSEN = (*(word for claim in CLAIMS for word in ("--claim", claim)), "--dtype", "float32")
LIMITS = ("--hang-after", "1", "--memory", "0.1")
TRAINING = {"normalize.centered", "hygiene.empty-batch"}
ORDINARY = {"normalize.centered"}  # of an empty batch, an exception is a refusal

HOSTILE = {
    # the cells that it costs, their verdict, and what is said in them
    "Segfaults": (TRAINING, "crashed", r"train: the process died of signal SIGSEGV"),
    "Aborts": (TRAINING, "crashed", r"train: the process died of signal SIGABRT"),
    "LeavesAtOnce": (TRAINING, "crashed", r"train: the process exited with status 3"),
    "ClosesEverything": (TRAINING, "crashed", r"train: the process (exited|closed)"),
    "TalksBack": (TRAINING, "crashed", r"train: the process (exited|closed|sent)"),
    "DiesOfEmptyBatches": ({"hygiene.empty-batch"}, "crashed", r"train: the process died of signal SIGSEGV"),
    "DiesOfEmptyEvaluations": ({"hygiene.empty-batch"}, "crashed", r"evaluate: the process died of signal SIGSEGV"),
    "DiesInRankFive": (ORDINARY, "crashed", r"train: the process died of signal SIGSEGV"),
    "LayerDies": ({"affine.defaults"}, "crashed", r"layer: the process exited with status 3"),
    "Sleeps": (TRAINING, "hung", r"train did not return within [\d.]+ s"),
    "Spins": (TRAINING, "hung", r"train did not return within [\d.]+ s"),
    "HoldsTheLock": (TRAINING, "hung", r"train did not return within [\d.]+ s"),
    "Exits": (TRAINING, "crashed", r"train raised SystemExit: 3"),
    "Interrupts": (TRAINING, "crashed", r"train raised KeyboardInterrupt"),
    "RaisesTheBase": (TRAINING, "crashed", r"train raised BaseException: nothing is more general"),
    "RaisesTheUnspeakable": (ORDINARY, "crashed", r"train raised Unspeakable"),
    "Recurses": (ORDINARY, "crashed", r"train raised RecursionError"),
    "Allocates": (ORDINARY, "crashed", r"train raised MemoryError"),
    "Yields": (TRAINING, "crashed", r"train returned a generator; expected a tuple of 3"),
    "ReturnsAnObject": (TRAINING, "crashed", r"train returned a object; expected a tuple of 3"),
    "ReturnsTooMuch": (ORDINARY, "crashed", r"train returned a tuple of 3000000; expected a tuple of 3"),
    "ReturnsAHugeArray": (ORDINARY, "crashed", r"train returned y of shape \(1000000, 1000000\); expected"),
    "ReturnsASubclass": (set(), "", ""),
    "Prints": (set(), "", ""),
    "LeavesThreads": (set(), "", ""),
    "LeavesProcesses": (set(), "", ""),
    "Disturbs": (set(), "", ""),
}
AT_IMPORT = {
    # what the file does when it is read, and what is said of it
    "dies": ("import ctypes; print('last words'); ctypes.string_at(0)", r"the process died of signal SIGSEGV \(.*\)"),
    "leaves": ("import os; os._exit(3)", r"the process exited with status 3"),
    "exits": ("raise SystemExit(3)", r"dies|SystemExit: 3"),
    "hangs": ("import time; time.sleep(1e6)", r"the process did not return within 1 s"),
}


@pytest.fixture(scope="module")
def alone(run):
    return run("--backend", "numpy", *CHOSEN)


@pytest.fixture(scope="module")
def beside(run, tmp_path_factory):
    """Them all beside a sound one, from a folder of their own, by which their processes are known."""
    folder = copied(tmp_path_factory.mktemp("beside"))
    for name, (source, _) in AT_IMPORT.items():
        (folder / f"{name}.py").write_text(source)
    files = [word for name in AT_IMPORT for word in ("--backend", f"{name}.py")]
    hostile = [word for name in HOSTILE for word in ("--backend", f"{folder}/hostile.py:{name}")]
    return run(*files, "--backend", "numpy", *hostile, *CHOSEN, *LIMITS, folder=folder), folder


def copied(folder):
    for name in ("hostile.py", "plain.py"):
        shutil.copy(ADAPTERS / name, folder)
    return folder


def processes():
    """The command lines of all processes."""
    return subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_backend_costs_its_own_cells_and_is_told(beside, name):
    costs, kind, pattern = HOSTILE[name]
    for claim in CLAIMS:
        verdict = beside[0].cells[claim, name, "float32"]["verdict"]
        told = (claim, verdict["kind"] if claim in costs else "conforms", verdict["words"])
        assert (claim, verdict["kind"], verdict["words"]) == told
        if claim in costs:
            assert (claim, verdict["kind"]) == (claim, kind), verdict["words"]
            assert re.match(pattern, verdict["words"]), verdict["words"]


@pytest.mark.parametrize("name", AT_IMPORT)
def test_what_is_hostile_when_it_is_imported_is_told(beside, name):
    assert re.search(AT_IMPORT[name][1], beside[0].results["broken"][f"{name}.py"])


def test_every_other_verdict_is_the_same(alone, beside):
    assert [c for c in beside[0].results["cells"] if c["backend"] == "numpy"] == alone.results["cells"]
    assert beside[0].status == 1


def test_nothing_that_a_backend_prints_is_shown(beside):
    assert not re.search("[xy]{99}", beside[0].out)


def test_no_process_outlives_the_run(beside):
    assert str(beside[1]) not in processes()


def test_a_worker_that_dies_costs_the_checks_it_dies_at(run, alone):
    done = run(*several("hostile", "Segfaults"), "--backend", "numpy", *CHOSEN, "--in-process", "-n", "1")
    assert [c for c in done.results["cells"] if c["backend"] == "numpy"] == alone.results["cells"]
    verdicts = {c["claim"]: c["verdict"]["kind"] for c in done.results["cells"] if c["backend"] == "Segfaults"}
    assert verdicts == {claim: "crashed" if claim in TRAINING else "conforms" for claim in CLAIMS}


def test_what_disturbs_its_surroundings_is_named(run):
    done = run(*several("hostile", "Disturbs"), "--claim", "hygiene.global-state", "--dtype", "float32")
    assert done.results["cells"][0]["verdict"]["rival"] == "changes NumPy's error state"
    assert done.status == 1


# -- the proxy --------------------------------------------------------------------------------------------------------

PROBE = """
import numpy as np

kept = []


def train(x, weight, bias, running_mean, running_var, *, momentum, eps):
    about = [*x.strides, *x.shape, x.dtype.itemsize]
    if momentum == 0.0:
        return x, np.array(float(weight is running_var)), np.array(float(weight is running_mean))
    if momentum == 1.0:
        x[...] = 2
        running_mean[1:] = 5
        return x.T, running_mean[::2], np.asarray(weight)
    kept[:] = [weight.copy(order="K")]
    return np.array(about, float), kept[0], x.copy(order="K")


def evaluate(x, weight, bias, running_mean, running_var, *, eps):
    kept[0][...] = 7
    return x


class Layer:
    def __init__(self, size):
        self.values = {name: np.zeros(size) for name in ("weight", "bias", "running_mean", "running_var")}

    def train(self, x):
        self.values["running_mean"] += 1
        return x * 2

    def evaluate(self, x):
        raise NotImplementedError("only training")

    def state(self):
        return self.values


def layer(num_features, *, ndim, dtype, **options):
    return Layer(num_features)
"""
OPTIONS = {"momentum": 0.5, "eps": 1.0}


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    path = tmp_path_factory.mktemp("probe") / "probe.py"
    path.write_text(PROBE)
    adapter = Isolated(str(path), Limits(hang_after=20))
    yield adapter.open().adapter
    adapter.close()


def four(dtype="float32"):
    return [np.arange(3).astype(numpy_dtype(dtype)) for _ in range(4)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_arrives_as_it_is(probe, dtype, layout):
    x = laid_out(np.arange(2 * 3 * 5 * 4.0).reshape(2, 3, 5, 4), dtype, layout)
    about, _, copy = probe.train(x, *four(dtype), **OPTIONS)
    assert about.tolist() == [*x.strides, *x.shape, x.dtype.itemsize]
    assert copy.dtype == x.dtype
    assert np.array_equal(copy, x)


@pytest.mark.parametrize("x", [np.zeros((0, 3)), np.ones((1, 3)), np.ones((4, 3))[::-1, ::-1], np.ones((3, 3))[:, :1]])
def test_odd_arrays_arrive_as_they_are(probe, x):
    about, _, copy = probe.train(x, *four("float64"), **OPTIONS)
    assert about.tolist() == [*x.strides, *x.shape, 8]
    assert np.array_equal(copy, x)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_written_and_returned_is_the_callers(probe, layout):
    x = laid_out(np.arange(24.0).reshape(2, 3, 4), "float32", layout)
    x_base = x.base if x.base is not None else x
    gaps = np.setdiff1d(x_base, x)
    weight, bias, mean, var = four()
    returned, some, same = probe.train(x, weight, bias, mean, var, momentum=1.0, eps=1.0)
    assert (x == 2).all()
    assert (np.setdiff1d(x_base, x) == gaps).all()
    assert mean.tolist() == [0, 5, 5]
    assert np.may_share_memory(returned, x)
    assert (returned.shape, returned.strides) == (x.T.shape, x.T.strides)
    assert np.may_share_memory(same, weight)
    assert not np.may_share_memory(same, bias)
    mean[2] = 9
    assert some.tolist() == [0, 9]


def test_an_array_given_twice_arrives_as_one(probe):
    x, (weight, bias, mean, _) = np.ones((4, 3), np.float32), four()
    _, *same = probe.train(x, weight, bias, mean, weight, momentum=0.0, eps=1.0)
    assert same == [1, 0]


def test_an_earlier_result_that_changes_is_seen_to_change(probe):
    x = np.ones((4, 3), np.float32)
    _, kept, _ = probe.train(x, *four(), **OPTIONS)
    assert kept.tolist() == [0, 1, 2]
    probe.evaluate(x, *four(), eps=1.0)
    assert kept.tolist() == [7, 7, 7]


def test_a_layer_lives_in_the_other_process(probe):
    layer = probe.layer(3, ndim=2, dtype="float64")
    before = layer.state()["running_mean"]
    assert layer.train(np.ones((2, 3))).tolist() == [[2, 2, 2], [2, 2, 2]]
    assert before.tolist() == layer.state()["running_mean"].tolist() == [1, 1, 1]
    with pytest.raises(NotImplementedError, match="only training"):
        layer.evaluate(np.ones((2, 3)))
    assert probe.layer(3, ndim=2, dtype="float64").state()["running_mean"].tolist() == [0, 0, 0]


def test_only_what_the_adapter_has_is_there(probe):
    assert not hasattr(probe, "train_gradients")


def test_a_layer_is_lost_with_its_process(probe):
    layer = probe.layer(3, ndim=2, dtype="float64")
    probe.close()
    with pytest.raises(Crashed, match="the layer was lost"):
        layer.state()
    assert probe.layer(3, ndim=2, dtype="float64").state()["weight"].tolist() == [0, 0, 0]


def test_what_hangs_is_given_up_soon():
    adapter = Isolated(f"{ADAPTERS / 'hostile.py'}:Sleeps", Limits(hang_after=1))
    sleeps, began, said = adapter.open().adapter, time.monotonic(), []
    for _ in range(20):
        with pytest.raises(Hung) as hung:
            sleeps.train(np.ones((4, 3)), *four("float64"), **OPTIONS)
        said.append(str(hung.value))
    adapter.close()
    assert said[0] == "train did not return within 1 s"
    assert said[2] == said[19] == "train did not return within 0.1 s (3 cases; not called any more)"
    assert time.monotonic() - began < 10


def test_an_interrupted_run_leaves_no_process(tmp_path):
    spec = f"{copied(tmp_path)}/hostile.py:Sleeps"
    command = [sys.executable, "-m", "pytest", str(SUITE), "-v", "-p", "no:cacheprovider", *QUICK, "--backend", spec]
    run = subprocess.Popen(
        [*command, *CHOSEN],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    while "PASSED" not in run.stdout.readline():  # what comes next hangs
        assert run.poll() is None
    time.sleep(1)
    assert spec in processes()
    run.send_signal(signal.SIGINT)
    assert run.communicate(timeout=60)[0]
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert spec not in processes()
