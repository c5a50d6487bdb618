"""Cases and the pools they are drawn from."""

import math
import subprocess
import sys

import numpy as np
import pytest

from normspec.conformance.cases import pools
from normspec.conformance.cases.arithmetic import DTYPES, GRADES, numpy_dtype
from normspec.conformance.cases.cases import LAYOUTS, Case, exact_spreads, inputs, laid_out, population, rounded
from normspec.conformance.cases.pools import DEFAULT_SEED, PROFILES, Pool, draw
from normspec.conformance.trials.experiments import EVERY_BATCH
from normspec.reference import ARTICLE, statistics

_EVERY = (*vars(pools).values(), *pools.EXACT.values(), *pools.HOSTILE.values(), *pools.HALF.values())
POOLS = {pool.name: pool for pool in _EVERY if isinstance(pool, Pool)}
PRINT_CASES = """
from normspec.conformance.cases.pools import *
for pool in (exact, accuracy, half):
    for case in draw(pool, "float32", PROFILES["quick"], {seed}):
        print(case)
"""


def printed(tmp_path, source, seed=DEFAULT_SEED):
    """What another process draws, from another folder and with another module of its own."""
    (tmp_path / "mine.py").write_text(source)
    program = "import sys, mine\n" + PRINT_CASES.format(seed=seed)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": ":".join([".", *sys.path])},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def test_cases_do_not_depend_on_where_and_beside_what_they_are_drawn(tmp_path):
    chosen = (pools.exact, pools.accuracy, pools.half)
    here = "".join(f"{c}\n" for p in chosen for c in draw(p, "float32", PROFILES["quick"], DEFAULT_SEED))
    assert printed(tmp_path, "A, B = 12345, 7") == here
    assert printed(tmp_path, "A, B = 54321, 9") == here
    assert printed(tmp_path, "", seed=1) != here


@pytest.mark.parametrize("name", POOLS)
def test_a_case_prints_as_what_rebuilds_it(name):
    for case in draw(POOLS[name], "float16", PROFILES["quick"], DEFAULT_SEED):
        assert eval(repr(case)) == case


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_cases_are_exact(dtype):
    for case in draw(pools.exact, dtype, PROFILES["default"], DEFAULT_SEED):
        made = inputs(case)
        spread = int(case.data.split()[1])
        var = statistics(made.x).var.ravel() / case.scale**2
        assert set(var) <= {spread, 4 * spread}
        assert math.log2(case.eps / case.scale**2 + spread) % 2 == 0  # the root is a power of two
        assert len(set(made.dy.ravel())) > 1


@pytest.mark.parametrize("size", range(2, 40))
def test_every_size_has_an_exact_pattern(size):
    for spread in exact_spreads(size):
        case = Case(dtype="float64", shape=(size, 1), data=f"exact {spread}")
        x = inputs(case).x
        assert x.size == size
        assert statistics(x).var.item() in (spread, 4 * spread)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [*LAYOUTS, "transposed"])
def test_a_layout_changes_memory_and_nothing_else(layout, dtype):
    x = rounded(np.random.RandomState(0).random_sample((3, 4, 5, 2)), dtype)
    laid = laid_out(x, dtype, layout)
    assert laid.dtype == numpy_dtype(dtype)
    assert laid.flags.c_contiguous == (layout == "contiguous")
    assert np.array_equal(laid.astype(np.float64), x)


@pytest.mark.parametrize("profile", PROFILES.values())
@pytest.mark.parametrize("dtype", DTYPES)
def test_accuracy_cases_are_finite(dtype, profile):
    for case in draw(pools.accuracy, dtype, profile, DEFAULT_SEED)[:200]:
        assert all(np.isfinite(array).all() for array in inputs(case))


def test_all_batches_from_a_population_average_to_it():
    """What the article's formula predicts is the population's own mean, variance over m, and variance."""
    for case in draw(pools.every_batch, "float64", PROFILES["default"], DEFAULT_SEED):
        values, size = population(case), case.shape[0]
        assert len({tuple(batch) for batch in inputs(case).x.T}) == len(values) ** size == case.shape[1]
        variance = np.square(values - values.mean()).mean()
        right = {
            "mean of means": values.mean(),
            "variance of means": variance / size,
            "mean of variances": variance,
            "mean of m-variances": variance * (size - 1) / size,
        }
        told = EVERY_BATCH.predict(case, ARTICLE, GRADES["float64"][0], {})
        assert told.keys() == right.keys()
        for name, (value, bound) in told.items():
            assert abs(value.item() - right[name]) <= bound.item() < 1e-9 * case.scale**2
