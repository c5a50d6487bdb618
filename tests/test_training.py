"""Networks trained on real data: how they are judged, and what is shown of them."""

import math
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from checks import laboratory, run_check
from faulty import backend
from networks import Network

from normspec.backends.numpy import NumPy
from normspec.conformance.cases.arithmetic import GRADES
from normspec.conformance.predictions import bounds
from normspec.conformance.reports import matrix
from normspec.conformance.reports.curves import NoPlots, drawn
from normspec.conformance.trials.adapters import NotOffered, open_backend
from normspec.conformance.verdicts import training
from normspec.conformance.verdicts.training import CHANCE, MOMENTUM, SETTLING, better, chance, distance, right, settled
from normspec.conformance.verdicts.verdicts import Kind, Verdict

CLAIMS = ("why.trains-faster", "why.matches-dataset")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def without(monkeypatch):
    """Makes a package one that is not installed."""

    def without(*modules):
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)
        training.digits.cache_clear()

    yield without
    training.digits.cache_clear()


# -- which classifier is better ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wins", "losses", "probability"),
    [
        (0, 0, 1),
        (0, 9, 1),
        (1, 1, 3 / 4),
        (8, 2, 56 / 1024),
        (10, 0, 2**-10),
        (60, 40, 0.02844396682049039),
        (1792, 0, 0),
    ],
)
def test_chance_is_the_upper_tail_of_fair_tosses(wins, losses, probability):
    assert chance(wins, losses) == pytest.approx(probability, rel=1e-6)


def test_twenty_images_can_be_enough_and_nineteen_cannot():
    assert chance(20, 0) < CHANCE < chance(19, 0)


def test_only_disagreements_count():
    one, other = np.ones(100, bool), np.ones(100, bool)
    assert better(one, other) == 1
    other[:3] = False
    assert better(one, other) == 1 / 8
    assert better(other, one) == 1


def test_what_is_not_finite_is_never_right():
    logits = np.array([[2.0, 1], [1, 2], [np.nan, 1], [np.inf, 1]], np.float32)
    assert right(logits, np.zeros(4, np.int64)).tolist() == [True, False, False, False]


# -- the statistics ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fed():
    """What layers might be given: (1792, 3), of several spreads."""
    return np.random.default_rng(1).normal([0, 5, -1], [1, 2, 0.1], (1792, 3)).astype(np.float32)


def tracked(fed, *, ddof=1, momentum=MOMENTUM, dtype=np.float32):
    """The state after the settling passes, step by step in float32."""
    mean, var = np.zeros(3, dtype), np.ones(3, dtype)
    keep, take = dtype(1 - momentum), dtype(momentum)
    for part in np.split(fed.astype(dtype), 14) * SETTLING:
        mean, var = keep * mean + take * part.mean(0), keep * var + take * part.var(0, ddof=ddof)
    return mean.astype(np.float64), var.astype(np.float64)


def inside(fed, state):
    told = settled(fed.astype(np.float64), np.zeros(3), np.ones(3))
    return [
        bool((abs(got - expected.value) <= expected.bound).all()) for got, expected in zip(state, told, strict=True)
    ]


def test_the_start_is_forgotten():
    assert (1 - MOMENTUM) ** (14 * SETTLING) < 2**-24


def test_settled_is_the_weighted_average_of_the_batches(fed):
    (mean, of_mean), (var, of_var) = settled(fed.astype(np.float64), np.full(3, 7.0), np.full(3, 3.0))
    weights = MOMENTUM * (1 - MOMENTUM) ** np.arange(14)[::-1] / (1 - (1 - MOMENTUM) ** 14)
    parts = np.split(fed.astype(np.float64), 14)
    left = (1 - MOMENTUM) ** (14 * SETTLING)  # what the start still weighs
    rounding = bounds.growth(fed.size * SETTLING, GRADES["float64"][0])
    for value, start, averaged, reach in (
        (mean, 7.0, sum(w * p.mean(0) for w, p in zip(weights, parts, strict=True)), abs(fed).max()),
        (var, 3.0, sum(w * p.var(0, ddof=1) for w, p in zip(weights, parts, strict=True)), abs(fed).max() ** 2),
    ):
        assert (abs(value - (left * start + (1 - left) * averaged)) <= rounding * (start + 4 * reach)).all()
    assert (of_mean < 0.01 * fed.std(0)).all()
    assert (of_var < 1 / 128 * var).all()  # tells divisor m from m - 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sound_state_is_inside_the_bound(fed, dtype):
    assert inside(fed, tracked(fed, dtype=dtype)) == [True, True]


def test_other_averages_are_outside(fed):
    assert inside(fed, tracked(fed, ddof=0)) == [True, False]
    assert inside(fed, tracked(fed, momentum=0.2)) == [False, False]
    assert inside(fed, tracked(fed[::-1])) == [False, False]  # other batches weigh most
    whole = fed.astype(np.float64)
    assert inside(fed, (whole.mean(0), whole.var(0, ddof=1))) == [False, False]  # no average of batches is as exact


def test_distance_is_in_deviations_and_leaves_constants_out():
    given = np.array([[0.0, 1], [2, 1]])  # mean 1 and sample variance 2, and a constant
    assert distance(np.array([2.0, 5]), np.array([3.0, 5]), given) == pytest.approx((1 / math.sqrt(2), 0.5))


# -- the claims --------------------------------------------------------------------------------------------------------


class Counted(Network):
    """Counts how often it is trained."""

    def __init__(self):
        self.trained = 0

    def train_network(self, *arrays, **options):
        self.trained += 1
        return super().train_network(*arrays, **options)


def test_both_claims_share_two_networks():
    adapter, lab = Counted(), laboratory()
    verdicts = [run_check(claim, backend(adapter), "float32", lab) for claim in CLAIMS]
    assert [v.kind for v in verdicts] == [Kind.CONFORMS] * 2, [v.words for v in verdicts]
    assert adapter.trained == 2
    assert set(verdicts[1].worst) == {"running_mean", "running_var"}
    curves = verdicts[0].curves
    assert list(curves) == ["plain", "with batch norm"]
    assert min(curves["plain"]) > 2 > 0.2 > curves["with batch norm"][-1]
    assert Verdict.from_serializable(verdicts[0].serializable()) == verdicts[0]


@pytest.mark.parametrize("name", ["torch", pytest.param("jax-jit", marks=pytest.mark.long)])
def test_frameworks_conform(name):
    pytest.importorskip(name.partition("-")[0])
    lab = laboratory(seed=1)
    for claim in CLAIMS:
        assert run_check(claim, open_backend(name), "float32", lab).kind == Kind.CONFORMS


def test_torch_leaves_the_random_state_alone():
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    first = torch.rand(3)
    torch.manual_seed(5)
    training.network(laboratory(), open_backend("torch"), normalized=False)
    assert torch.rand(3).tolist() == first.tolist()


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_is_missing_is_said(claim, without):
    verdict = run_check(claim, backend(NumPy()), "float32")
    assert (verdict.kind, verdict.words) == (Kind.NOT_OFFERED, "the adapter has no train_network")
    without("sklearn", "sklearn.datasets")
    verdict = run_check(claim, backend(Network()), "float32")
    assert (verdict.kind, verdict.words) == (
        Kind.NOT_OFFERED,
        "scikit-learn is not installed: pip install 'normspec[digits]'",
    )
    with pytest.raises(NotOffered):
        training.digits()


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_it_is_stated_in_float32(dtype):
    verdict = run_check(CLAIMS[0], backend(Network()), dtype)
    assert (verdict.kind, verdict.words) == (Kind.INCONCLUSIVE, "the experiment is stated in float32")


class Made(NumPy):
    """Returns what a network might that is right on given shares of the images, plain and normalized."""

    def __init__(self, plain=0.1, normalized=1.0, evaluated=1.0, broken=None):
        self.shares, self.evaluated, self.broken = (plain, normalized), evaluated, broken

    def train_network(self, x, labels, *, depth, width, normalized, **options):
        def logits(share):
            right = np.arange(len(x)) < share * len(x)
            return np.eye(10, dtype=np.float32)[np.where(right, labels, (labels + 1) % 10)]

        layers = depth if normalized else 0
        given = np.zeros((layers, len(x), width), np.float32)
        mean, var = np.zeros((2, layers, width), np.float32), np.ones((2, layers, width), np.float32)
        var[1] = (1 - MOMENTUM) ** (14 * SETTLING)  # all is 0 but for the start
        returned = [
            np.ones(140, np.float32), logits(self.shares[normalized]), given, mean, var, logits(self.evaluated),
        ]  # fmt: skip
        return tuple(self.broken(returned) if self.broken else returned)


def put(position, value):
    def broken(returned):
        returned[position] = np.full_like(returned[position], value)
        return returned

    return broken


@pytest.mark.parametrize(
    ("made", "faster", "matches"),
    [
        (Made(), "conforms", "conforms"),
        (Made(plain=1.0), "deviates: the plain network is as good", "conforms"),
        (Made(plain=0.995), "deviates: the plain network is as good", "conforms"),
        (Made(plain=0.8), "inconclusive", "conforms"),
        (Made(normalized=0.4, evaluated=0.4), "inconclusive", "conforms"),
        (Made(evaluated=0.98), "conforms", "deviates: evaluation is worse than training mode"),
        (Made(evaluated=0.995), "conforms", "conforms"),
        (Made(broken=put(3, 0.1)), "conforms", "deviates: tracked statistics are not the data set's"),
        (Made(broken=put(4, np.nan)), "conforms", "deviates: tracked statistics are not the data set's"),
        (Made(broken=put(2, np.nan)), "conforms", "deviates: tracked statistics are not the data set's"),
        (Made(broken=put(1, np.nan)), "deviates: the plain network is as good", "conforms"),
        (Made(broken=lambda returned: returned[:5]), "crashed", "crashed"),
        (Made(broken=lambda returned: [a[:3] for a in returned]), "crashed", "crashed"),
    ],
)
def test_verdicts(made, faster, matches):
    lab = laboratory()
    assert [run_check(claim, backend(made), "float32", lab).label for claim in CLAIMS] == [faster, matches]


# -- the curves --------------------------------------------------------------------------------------------------------


def test_curves_are_drawn_the_same_every_time_and_readable():
    curves = {"plain": [2.3, 2.2, math.nan, math.inf, 2.0], "with <batch> norm & more": [2.3, 0.1]}
    svg = drawn("a & b: $loss$", curves)
    assert svg == drawn("a & b: $loss$", curves)
    texts = ["".join(text.itertext()).strip() for text in ET.fromstring(svg).iter(f"{SVG}text")]
    assert {"a & b: $loss$", "step", *curves} <= set(texts)
    assert "nan" not in svg
    assert not any(told in svg for told in ("<dc:date>", "Matplotlib", "#ffffff", "#000000"))


def test_a_single_point_and_no_curve_can_be_drawn():
    assert drawn("one", {"a": [1.0]}).startswith("<svg")
    assert drawn("none", {}).startswith("<svg")


def test_missing_matplotlib_is_said(without):
    without("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_svg")
    with pytest.raises(NoPlots, match=r"^Matplotlib is not installed: pip install 'normspec\[plots\]'$"):
        drawn("loss", {"plain": [1.0]})


def test_figures_lie_beside_the_matrix(run, tmp_path):
    """And a network passes between processes as it is."""
    networks = Path(__file__).with_name("networks.py")
    arguments = ("--claim", "why.*", "--dtype", "float32", "--matrix", "deep/my matrix.md")
    done = run("--backend", f"{networks}:Network", *arguments, folder=tmp_path)
    assert done.status == 0, done.out
    here = run_check(CLAIMS[1], backend(Network()), "float32")
    assert done.cells[CLAIMS[1], "numpy", "float32"]["verdict"]["words"] == here.words
    (figure,) = (tmp_path / "deep").glob("*.svg")
    assert figure.name == "my-matrix-why.trains-faster-numpy-float32.svg"
    markdown = (tmp_path / "deep/my matrix.md").read_text(encoding="utf-8")
    assert f"]({figure.name})" in markdown
    assert "with batch norm: 2." in markdown
    assert len(done.cells[CLAIMS[0], "numpy", "float32"]["verdict"]["curves"]["plain"]) == 140


def test_without_matplotlib_the_ends_are_told(without):
    without("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_svg")
    verdict = Verdict(kind=Kind.CONFORMS, curves={"plain": (2.3, 2.25), "with batch norm": (2.4, 0.03)})
    cell = matrix.Cell(claim=CLAIMS[0], backend="it", dtype="float32", verdict=verdict)

    class Suite:
        backends = (backend(NumPy(), "it"),)

    figures, told = matrix.Matrix(Suite(), [cell])._figures("matrix")
    assert figures == {}
    assert "plain: 2.3 to 2.25; with batch norm: 2.4 to 0.03" in told
