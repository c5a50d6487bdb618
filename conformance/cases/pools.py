"""Pools of cases, drawn once and shared by all claims and backends. Hypothesis shrinks what fails.

Convention pools hold exact data: small integers times a power of two whose mean, variance and (with the eps that goes
with them) root are exact in every dtype, so that rounding hides no rival. Accuracy pools hold plain and hostile data.
The two are never mixed in one pool. A backend that compiles for each shape meets few shapes and many values.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np

from normspec.conformance.cases.arithmetic import FORMATS
from normspec.conformance.cases.cases import GENERAL, LAYOUTS, Case, exact_spreads
from normspec.conformance.cases.operations import OPERATIONS, Operation
from normspec.conformance.cases.sizes import EDGES, LAYERS

DEFAULT_SEED = 20150211  # the day of arXiv 1502.03167; any number would do, but always the same one


@dataclass(frozen=True)
class Profile:
    """How much is looked at."""

    name: str
    cases: int
    """Cases in an ordinary pool."""
    longest: int
    """Values in the longest reduction."""
    edges: int
    """Shapes at the edges of vectors and tiles."""
    largest: int
    """Elements in the input of the largest layer; at 4 million a run needs less than 2 GiB."""


PROFILES = {
    "quick": Profile("quick", 12, 65_551, 14, 30_000),
    "default": Profile("default", 100, 65_551, 20, 450_000),
    "thorough": Profile("thorough", 1000, 1_000_015, len(EDGES), 4_200_000),
}


@dataclass(frozen=True)
class Pool:
    """A named family of cases. `share` scales the profile's number of cases."""

    name: str
    build: "Callable[[Pick, str], Case] | None" = None
    """Makes a case of a dtype by picking."""
    always: Callable[[str], Sequence[Case]] = lambda _: ()
    """Cases that are in every profile, whatever is drawn."""
    share: float = 1.0
    listed: Callable[[str, Profile], Sequence[Case]] | None = None
    """For pools that are not drawn: all cases of a dtype in a profile."""
    few: int = 0
    """How many of the first cases must do for a backend that compiles each; 0: all."""


@lru_cache(maxsize=256)
def draw(pool: Pool, dtype: str, profile: Profile, seed: int) -> tuple[Case, ...]:
    """The cases of a pool: the same for the same arguments, on every machine.

    Those of `always`, then the simplest one, then cases built from random bytes. The bytes are the same for all dtypes
    and pools, which so share arrays. The first byte counts: what is picked first, the shape, goes round, so that every
    rank is there for a backend that takes one alone.
    """
    if pool.listed is not None:
        return tuple(pool.listed(dtype, profile))
    assert pool.build is not None, f"the pool {pool.name} has no cases"
    always = pool.always(dtype)
    cases: dict[Case, None] = dict.fromkeys(always)
    wanted = max(round(profile.cases * pool.share) - len(always), 4)
    for raw in (bytes(BYTES), *_raw(seed, 2 * wanted)):
        if len(cases) == len(always) + wanted:
            break
        cases[pool.build(Pick(raw), dtype)] = None
    return tuple(cases)


@lru_cache(maxsize=4)
def _random(seed: int) -> bytes:
    return np.random.RandomState(seed % 2**32).bytes(2048 * BYTES)


def _raw(seed: int, count: int) -> Iterator[bytes]:
    """The random bytes of so many cases."""
    block = _random(seed)
    for i in range(count):
        yield bytes([(i + 1) % 256]) + block[i * BYTES + 1 : (i + 1) * BYTES]


def shrink(pool: Pool, dtype: str, first: Case, fails: Callable[[Case], bool], seed: int) -> Case:
    """The simplest case that Hypothesis finds to fail as `first` does; `first` itself where it finds none."""
    if pool.listed is not None:
        return first
    import hypothesis  # a second, and only needed where something fails
    from hypothesis import HealthCheck, Phase
    from hypothesis import strategies as st
    from hypothesis.errors import Flaky

    build = pool.build
    assert build is not None, f"the pool {pool.name} has no cases"
    budget = iter(range(400))  # shrinking is for people: a few seconds, not minutes
    best = first

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=150,
        phases=(Phase.generate, Phase.shrink),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(st.binary(min_size=BYTES, max_size=BYTES))
    def search(raw: bytes) -> None:
        nonlocal best
        if next(budget, None) is not None and fails(case := build(Pick(raw), dtype)):
            best = case
            raise AssertionError

    with suppress(AssertionError, Flaky):  # flaky: what a backend returns depends on earlier calls
        search()
    return best


Value = TypeVar("Value")
BYTES = 21


class Pick:
    """Picks values for the fields of a case, by one or two random bytes each; of zeros, the first value."""

    def __init__(self, raw: bytes) -> None:
        self._bytes = iter(raw)

    def __call__(self, values: Sequence[Value]) -> Value:
        """One of the values."""
        index = next(self._bytes)
        if len(values) > 256:
            index = 256 * index + next(self._bytes)
        return values[index % len(values)]


# -- convention pools -------------------------------------------------------------------------------------------------

EXACT_SHAPES = (
    (2, 1), (4, 3), (2, 2, 2), (3, 2, 3), (2, 2, 2, 2), (2, 3, 1, 4), (1, 3, 4), (2, 17, 2), (2, 2, 2, 1, 3),
)  # fmt: skip
SEEDS = range(2**16)


def _exact_cases(pick: Pick, dtype: str, shapes: Sequence[tuple[int, ...]] = EXACT_SHAPES) -> Case:
    shape = pick(shapes)
    size = math.prod(shape) // shape[1]
    spread = pick(exact_spreads(size))
    scale = 2.0 ** pick((0, -1, 1, -2, -3, -5, -7, -9, -10))
    root = pick((2, 4))
    return Case(
        dtype=dtype,
        shape=shape,
        data=f"exact {spread}",
        seed=pick(SEEDS),
        scale=scale,
        eps=scale**2 * (root**2 - spread),
        momentum=pick((0.25, 0.75, 0.125, 0.875)),
        layout=pick(LAYOUTS),
    )


def _exact_corners(dtype: str) -> list[Case]:
    """One case of each kind that some rival needs to show itself."""
    plain = Case(dtype=dtype, shape=(4, 3), data="exact 3", eps=1.0, momentum=0.25, seed=1)
    return [
        plain,
        replace(plain, eps=13.0, momentum=0.875),
        replace(plain, shape=(2, 2, 2, 2), data="exact 2", eps=2.0, seed=2),
        replace(plain, shape=(2, 3, 1, 4), seed=3, layout="channels last"),
        replace(plain, shape=(2, 17, 2), seed=4, momentum=0.75),
        replace(plain, shape=(2, 2, 2, 1, 3), data="exact 2", eps=2.0, seed=5, momentum=0.875),
        replace(plain, shape=(1, 3, 4), seed=8),
        replace(plain, shape=(1, 3, 2, 2), seed=11),  # alone, too, where only images are taken
        replace(plain, shape=(4, 257), seed=9, momentum=0.875),
        replace(plain, shape=(2, 17, 1, 2), seed=10),
        replace(plain, scale=2.0**-10, eps=2.0**-20, seed=6),
        replace(plain, shape=(2, 3, 1, 4), scale=2.0**-10, eps=13 * 2.0**-20, seed=7, momentum=0.125),
    ]


def _varied(pool: str, **change: object) -> Pool:
    """The exact pool with some fields fixed."""
    return Pool(
        pool,
        lambda pick, dtype: replace(_exact_cases(pick, dtype), **change),  # type: ignore[arg-type]
        lambda dtype: [replace(case, **change) for case in _exact_corners(dtype)],  # type: ignore[arg-type]
        share=0.3,
    )


exact = Pool("exact", _exact_cases, _exact_corners)
unit = _varied("unit", parameters="unit")
undo = _varied("undo", parameters="undo")
zero_eps = _varied("zero eps", eps=0.0)
keeps = _varied("momentum 0", momentum=0)  # whole numbers, which are momenta like any other
takes = _varied("momentum 1", momentum=1)
one_channel = Pool(
    "one channel", lambda pick, dtype: _exact_cases(pick, dtype, ((4, 1), (2, 1, 2), (2, 1, 2, 2))), share=0.1
)
one_sample = Pool(
    "one sample", lambda pick, dtype: _exact_cases(pick, dtype, ((1, 3, 4), (1, 2, 8), (1, 3, 2, 2))), share=0.1
)
repeated = _varied("repeated", steps=5)

_FEW_SHAPES = ((4, 3), (3, 2, 3), (2, 2, 2, 2))
few = Pool("few", lambda pick, dtype: _exact_cases(pick, dtype, _FEW_SHAPES), share=0.3)
few_zero_eps = Pool(
    "few, eps 0", lambda pick, dtype: replace(_exact_cases(pick, dtype, _FEW_SHAPES), eps=0.0), share=0.15
)


def _layer_cases(pick: Pick, dtype: str) -> Case:
    case = _exact_cases(pick, dtype, ((4, 3), (2, 2, 2), (2, 2, 2, 2), (2, 2, 2, 1, 3)))
    scale = pick((1.0, 0.5, 2.0))  # a new layer's state is 0 and 1: stay in sight of it
    return replace(case, scale=scale, eps=case.eps / case.scale**2 * scale**2, steps=pick((2, 3, 4)))


def _wide_layer(dtype: str) -> list[Case]:
    return [Case(dtype=dtype, shape=(4, 1025), data="exact 3", eps=1.0, steps=2)]


layers = Pool("layers", _layer_cases, _wide_layer, share=0.3)
zero_eps_layers = Pool(
    "layers, eps 0",
    # The variance is near 1e-5, so that an eps of that size would show in every dtype.
    lambda pick, dtype: replace(_layer_cases(pick, dtype), scale=2.0**-9, eps=0.0),
    share=0.1,
)
whole_layers = Pool(
    "layers, momentum 0 or 1", lambda pick, dtype: replace(_layer_cases(pick, dtype), momentum=pick((0, 1))), share=0.1
)
uneven_layers = Pool(
    "layers, uneven data",
    lambda pick, dtype: replace(_layer_cases(pick, dtype), data="bell", eps=pick((1e-5, 1e-3))),
    share=0.1,
)
cumulative = Pool("cumulative", lambda pick, dtype: replace(_layer_cases(pick, dtype), steps=4), share=0.15)


def _constant_cases(pick: Pick, dtype: str) -> Case:
    return Case(
        dtype=dtype,
        shape=pick(EXACT_SHAPES),
        data="constant",
        seed=pick(SEEDS),
        location=pick((0.125, 0.0, 1.0, -3.0, 100.0)),
        eps=pick((1.0, 0.25, 2.0**-10, 1e-5, 2.0**-30 if dtype == "float16" else 1e-7)),  # too small for float16 itself
    )


def _constant_corners(dtype: str) -> list[Case]:
    """An eps that is 0 in float16, where squares are far from overflow: seed 20150237 drew none, and JAX passed."""
    alone = Case(dtype=dtype, shape=(4, 3), data="constant", location=1.0, eps=2.0**-30, seed=1)
    # Of zeros, a rival that does not subtract the mean is decided, too: 1 / sqrt(eps) alone is near float16's largest.
    return [alone, replace(alone, location=0.0, seed=2)] if dtype == "float16" else []


constant = Pool("constant", _constant_cases, _constant_corners, share=0.3)


# -- accuracy pools ---------------------------------------------------------------------------------------------------

ACCURACY_SHAPES = (
    (4, 3), (7, 5), (2, 3, 5), (3, 2, 4, 5), (2, 3, 3, 2, 4), (64, 33), (257, 2), (16, 4, 8, 8),
)  # fmt: skip


def _log_uniform(low: float, high: float) -> list[float]:
    """Numbers between two powers of two, evenly spread in the exponent; exact, so that they print short."""
    return [2.0**k for k in range(round(math.log2(low)), round(math.log2(high)) + 1)]


def _limits(dtype: str) -> tuple[tuple[float, float], float, tuple[float, float]]:
    """Range of the deviation, largest ratio of mean to deviation, range of eps: where every sound result fits."""
    return {
        "float64": ((2.0**-40, 2.0**40), 2.0**34, (2.0**-40, 0.125)),
        "float32": ((2.0**-20, 2.0**20), 2.0**17, (2.0**-30, 0.125)),
        "bfloat16": ((2.0**-10, 2.0**10), 2.0**2, (2.0**-17, 0.125)),
        "float16": ((2.0**-6, 2.0**4), 2.0**5, (2.0**-16, 0.125)),
    }[dtype]


def _accuracy_cases(pick: Pick, dtype: str) -> Case:
    scales, kappa, epsilons = _limits(dtype)
    shape = pick(ACCURACY_SHAPES)
    data = pick(GENERAL)
    scale = pick(_log_uniform(*scales))
    ratio = pick((0.0, 1.0, None))  # a third each: no mean, a mild one, any up to the largest
    ratio = pick(_log_uniform(1.0, kappa)) if ratio is None else ratio
    if dtype == "float16" and data in ("heavy tails", "outlier first", "one-hot"):
        scale, ratio = min(scale, 1.0), min(ratio, 4.0)
    return Case(
        dtype=dtype,
        shape=shape,
        data=data,
        seed=pick(SEEDS),
        location=ratio * scale,
        scale=scale,
        eps=pick(_log_uniform(*epsilons)) * pick((1.0, 0.7)),  # the second is exact in no dtype
        momentum=pick((0.1, 0.3, 0.9)),
        layout=pick(LAYOUTS),
        dy_layout=pick(("", *LAYOUTS)),
    )


def _accuracy_corners(dtype: str) -> list[Case]:
    """Means so far from zero that a variance in one pass is negative somewhere, unless it is held at 0."""
    if dtype not in ("float64", "float32"):
        return []
    plain = Case(dtype=dtype, shape=(3, 2, 4, 5), data="bell", scale=2.0**10, eps=2.0**-10, momentum=0.1)
    ratios = (2.0**14, 2.0**29) if dtype == "float64" else (2.0**14,)  # in float32, and in float64 itself
    shapes = ((3, 2, 4, 5), (64, 33), (7, 5))
    return [
        replace(plain, shape=shape, location=ratio * plain.scale, seed=seed)
        for ratio in ratios
        for seed, shape in enumerate(shapes)
    ]


accuracy = Pool("accuracy", _accuracy_cases, _accuracy_corners)


# -- the relatives of batch norm --------------------------------------------------------------------------------------

_Form = tuple[tuple[int, ...], int, int]
"""Shape of x, groups of channels, and how many last axes layer norm runs over."""
_ROWS: tuple[_Form, ...] = (
    ((3, 4), 1, 0), ((2, 3, 4), 1, 0), ((2, 3, 4), 1, 1), ((2, 2, 2, 2), 1, 0), ((2, 3, 4, 2), 1, 2), ((1, 6), 1, 0),
    ((5, 16), 1, 1), ((2, 2, 3, 2, 2), 1, 3),
)  # fmt: skip
_INSTANCES: tuple[_Form, ...] = tuple(
    (shape, 1, 0) for shape in ((2, 3, 4), (3, 2, 2, 2), (1, 3, 4), (2, 17, 2), (2, 2, 1, 4), (2, 3, 2, 2, 2))
)
_GROUPS: tuple[_Form, ...] = (
    ((2, 6, 2), 2, 0), ((2, 4, 2, 2), 2, 0), ((3, 6, 2), 3, 0), ((4, 8), 2, 0), ((2, 4, 2), 1, 0), ((2, 3, 4), 3, 0),
    ((1, 12, 1, 2), 2, 0), ((2, 4, 2, 1, 2), 2, 0),
)  # fmt: skip
_EXACT_FORMS = {
    "rows": _ROWS, "channels": _INSTANCES, "groups": _GROUPS, "units": tuple((shape, 1, 0) for shape, *_ in _ROWS),
}  # fmt: skip
"""By how parameters lie."""
_WIDER: dict[str, tuple[_Form, ...]] = {
    "rows": (((7, 33), 1, 0), ((3, 5, 16), 1, 1), ((2, 3, 4, 5), 1, 0), ((4, 257), 1, 1)),
    "channels": (((2, 5, 33), 1, 0), ((3, 4, 8, 8), 1, 0), ((2, 3, 2, 3, 4), 1, 0)),
    "groups": (((2, 12, 5), 3, 0), ((3, 32, 4, 4), 4, 0), ((5, 64), 8, 0), ((2, 6, 3, 4), 6, 0)),
}


_LONG: dict[str, tuple[_Form, ...]] = {
    "rows": (((3, 2048), 1, 0), ((2, 5), 1, 0)),
    "channels": (((2, 2, 32, 32), 1, 0), ((2, 3, 5), 1, 0)),
    "groups": (((2, 8, 16, 16), 2, 0), ((2, 10), 2, 0)),
}


def _formed(case: Case, form: _Form) -> Case:
    shape, groups, trailing = form
    return replace(case, shape=shape, groups=groups, trailing=trailing)


def _within_samples(operation: Operation) -> tuple[Pool, Pool, Pool]:
    """Exact cases, hostile ones, and those that tell sums in half, for an operation that normalizes within a sample."""
    forms, kind = _EXACT_FORMS[operation.lie], "rows" if operation.lie == "units" else operation.lie

    def exactly(pick: Pick, dtype: str) -> Case:
        form = pick(forms)
        case = _formed(_exact_cases(pick, dtype), form)
        spread = pick(exact_spreads(operation.size(case)))
        root = pick((2, 4))
        return replace(case, data=f"exact {spread}", eps=case.scale**2 * (root**2 - spread))

    def corners(dtype: str) -> list[Case]:
        plain = Case(dtype=dtype, shape=(1, 1), data="exact 1", eps=3.0)
        return [replace(_formed(plain, form), seed=seed) for seed, form in enumerate(forms)]

    def roughly(pick: Pick, dtype: str) -> Case:
        form = pick(_WIDER[kind])
        case = _formed(_accuracy_cases(pick, dtype), form)
        if operation.rules.eps_rule == "absent" and case.data == "constant":
            return replace(case, location=case.scale)  # the norm of nothing but zeros has no inverse
        return case

    def in_half(pick: Pick, dtype: str) -> Case:
        form = pick(_LONG[kind])
        return _formed(_half_cases(pick, dtype), form)

    def far_from_zero(dtype: str) -> list[Case]:
        """Means so far off that a variance in one pass, of float32 or of float64, is negative unless held at 0.

        Which of the values that share one is so is chance: there are enough of them for some to be.
        """
        if dtype not in ("float64", "float32") or operation.rules.center == "zero":  # nothing is subtracted there
            return []
        ratios = (2.0**16, 2.0**32) if dtype == "float64" else (2.0**16,)
        plain = Case(dtype=dtype, shape=(1, 1), data="bell", scale=2.0**-10, eps=2.0**-30)
        return [
            replace(_formed(plain, form), location=ratio * plain.scale, seed=seed)
            for ratio in ratios
            for seed, form in enumerate(_WIDER[kind][:3])
        ]

    return (
        Pool(f"exact {operation.name}", exactly, corners, share=0.5),
        Pool(f"hostile {operation.name}", roughly, far_from_zero, share=0.3),
        Pool(f"half {operation.name}", in_half, share=0.1),
    )


_OF_RELATIVES = {name: _within_samples(o) for name, o in OPERATIONS.items() if not o.over_batch}
instances = replace(_OF_RELATIVES["instance norm"][0], name="instances", share=0.1)


def _l1_cases(pick: Pick, dtype: str) -> Case:
    """No value at its mean, where a magnitude has no derivative."""
    case = _exact_cases(pick, dtype, ((4, 3), (2, 2, 2), (2, 2, 2, 2), (2, 3, 1, 4), (1, 3, 4), (2, 2, 2, 1, 2)))
    return replace(case, data=pick(("exact 3", "exact 1")))


def _l1_corners(dtype: str) -> list[Case]:
    plain = Case(dtype=dtype, shape=(4, 3), data="exact 3", eps=1.0, seed=1)
    return [
        plain,
        replace(plain, shape=(2, 17, 2), seed=2, eps=0.25),
        replace(plain, shape=(2, 3, 1, 4), seed=3, layout="channels last"),
        replace(plain, shape=(1, 3, 4), seed=4),
        replace(plain, shape=(2, 2, 2, 1, 2), seed=5, scale=2.0**-8),
    ]


def _rough_l1_cases(pick: Pick, dtype: str) -> Case:
    case = _accuracy_cases(pick, dtype)
    return replace(case, data=pick(("bell", "uniform", "heavy tails", "sorted")))


MEASURES = (
    ("mean", "standard"), ("median", "mean absolute"), ("midrange", "half range"), ("mean", "mean absolute"),
)  # fmt: skip
"""The pairs of center and deviation that generalized batch norm is asked for."""


def _generalized_cases(pick: Pick, dtype: str) -> Case:
    """Even counts of values that all differ, so that the two in the middle are told from the rest."""
    center, deviation = pick(MEASURES)
    return Case(
        dtype=dtype,
        shape=pick(((4, 3), (2, 2, 4), (2, 3, 2, 2), (1, 3, 6), (2, 2, 2, 1, 2), (6, 17))),
        data=pick(("bell", "uniform")),
        seed=pick(SEEDS),
        location=pick((2.0, -1.0, 0.5)),
        eps=pick((1.0, 0.25)),
        layout=pick(LAYOUTS),
        center=center,
        deviation=deviation,
    )


def _generalized_corners(dtype: str) -> list[Case]:
    plain = Case(dtype=dtype, shape=(4, 3), data="bell", location=2.0, eps=1.0, seed=1)
    return [
        replace(plain, center=center, deviation=deviation, shape=shape)
        for center, deviation in MEASURES
        for shape in ((4, 3), (2, 3, 4, 2))
    ]


exact_l1 = Pool("exact l1 batch norm", _l1_cases, _l1_corners, share=0.3)
hostile_l1 = Pool("hostile l1 batch norm", _rough_l1_cases, share=0.3)
generalized = Pool("generalized batch norm", _generalized_cases, _generalized_corners, share=0.4)

# -- among other layers -----------------------------------------------------------------------------------------------


def _linear_cases(pick: Pick, dtype: str) -> Case:
    return Case(
        dtype=dtype,
        shape=pick(((4, 3), (2, 3, 4), (2, 2, 3, 2), (2, 2, 2, 2, 2))),
        data="integers",
        seed=pick(SEEDS),
        eps=pick((1.0, 0.25)),
    )


linear = Pool("linear", _linear_cases, share=0.15, few=4)
rescaled = Pool(
    "rescaled",
    lambda pick, dtype: replace(_linear_cases(pick, dtype), scale=pick((8.0, 0.125, 32.0))),
    share=0.15,
    few=4,
)
deep = Pool(
    "deep",
    lambda pick, dtype: Case(
        dtype=dtype,
        shape=(32, 16),
        data="bell",
        seed=pick(SEEDS),
        scale=pick((4.0, 0.25)),
        eps=pick((1e-5, 1e-3)),
        steps=pick((24, 30, 36)),
    ),
    share=0.04,
)


# Shapes and devices: two values a channel on each at least; few, as some frameworks compile for each.
_SPLITS = (((8, 3), 4), ((4, 2, 2), 2), ((4, 3, 2, 2), 4), ((8, 2, 3), 2), ((4, 2, 1, 2, 2), 4))
_WIDER_SPLITS = (((32, 5), 4), ((8, 33, 2), 2), ((4, 4, 8, 8), 4), ((6, 3, 2, 2, 3), 2))


def _exact_split(pick: Pick, dtype: str) -> Case:
    shape, devices = pick(_SPLITS)
    return replace(_exact_cases(pick, dtype, [shape]), devices=devices)


def _hostile_split(pick: Pick, dtype: str) -> Case:
    shape, devices = pick(_WIDER_SPLITS)
    return replace(_accuracy_cases(pick, dtype), shape=shape, devices=devices)


exact_split = Pool("exact split", _exact_split, share=0.3)
hostile_split = Pool("hostile split", _hostile_split, share=0.3)

EXACT, HOSTILE, HALF = ({name: made[i] for name, made in _OF_RELATIVES.items()} for i in range(3))
"""The pools of every operation by its name: of exact cases, of hostile ones, and of those that tell sums in half."""
EXACT |= {
    "batch norm": exact,
    "l1 batch norm": exact_l1,
    "generalized batch norm": generalized,
    "linear norm": linear,
    "train split": exact_split,
}
HOSTILE |= {"batch norm": accuracy, "l1 batch norm": hostile_l1, "train split": hostile_split}


# -- more accuracy pools ----------------------------------------------------------------------------------------------


def _cancellation_cases(pick: Pick, dtype: str) -> Case:
    low, high = (2.0**27, 2.0**30) if dtype == "float64" else (2.0**12, 2.0**15)
    shape = pick(((4, 3), (7, 5), (2, 3, 5)))
    return Case(
        dtype=dtype,
        shape=shape,
        data=pick(("bell", "uniform", "outlier first")),
        seed=pick(SEEDS),
        location=pick(_log_uniform(low, high)),
        eps=pick(_log_uniform(2.0**-30, 2.0**-10)),
        layout=pick(LAYOUTS),
    )


cancellation = Pool("cancellation", _cancellation_cases, share=0.3)


def _half_cases(pick: Pick, dtype: str) -> Case:
    """Large means, which tell statistics kept in half, and long reductions of mild data, which tell sums in half."""
    precise = 1 / FORMATS[dtype].roundoff
    shape = pick(((7, 5), (16, 4, 8, 8), (64, 2, 16, 16)))
    ratio = pick((2.0, 4.0, precise / 128, precise / 64, precise / 32))
    return Case(
        dtype=dtype,
        shape=shape,
        data=pick(("bell", "uniform")),
        seed=pick(SEEDS),
        location=ratio,
        eps=pick(_log_uniform(2.0**-16, 2.0**-4)),
        layout=pick(LAYOUTS),
    )


def _half_corners(dtype: str) -> list[Case]:
    """Of each kind one: long reductions of mild data, and a large mean in a short one."""
    plain = Case(dtype=dtype, shape=(64, 2, 16, 16), data="bell", location=2.0, eps=2.0**-10)
    return [
        plain,
        replace(plain, data="uniform", shape=(16, 4, 8, 8), seed=1),
        replace(plain, shape=(7, 5), location=1 / FORMATS[dtype].roundoff / 32, seed=2),
    ]


half = Pool("half", _half_cases, _half_corners, share=0.3)


def _spiky(dtype: str, shape: tuple[int, ...], place: int, seed: int) -> Case:
    """One value that outweighs the others: a reduction that loses it shows."""
    # In float16 the spike is 64 and its square still fits, also beside the sum of all other squares.
    scale = 2.0**-8 if dtype == "float16" else 1.0
    return Case(dtype=dtype, shape=shape, data=f"spike at {place}", scale=scale, eps=2.0**-20, seed=seed)


def _extent_cases(dtype: str, profile: Profile) -> list[Case]:
    """Long reductions, over space and over the batch, with a spike at their ends and at block boundaries."""
    longest = profile.longest
    # Of 3001 both ends, and in turn what whole blocks of 16, 32, 64, 256 and 1024 are the first to lose.
    spikes = [_spiky(dtype, (1, 2, 3001), place, 10) for place in (3000, 0, 2995, 2980, 2950, 2850, 2500)]
    # The last; one in the last, partial block of 4, and of 8; one beyond 65536 in a whole block; ends of first blocks.
    places = (longest - 1, longest - 2, longest - 5, longest - 12, 0, 8192, 65535, longest // 2)
    spikes += [_spiky(dtype, (1, 2, longest), place, seed) for seed, place in enumerate(places)]
    return [*spikes, _spiky(dtype, (longest, 2), longest - 1, 0)]


extent = Pool("extent", listed=_extent_cases)


def _shape_cases(dtype: str, profile: Profile) -> list[Case]:
    """Each shape with plain data, and with a spike in its last place: all in float32, a third in the other dtypes.

    Some frameworks compile every operation for every shape and dtype, and paths that depend on a size are many for one
    dtype rather than one for each.
    """
    layers = [shape for shape in LAYERS if math.prod(shape) <= profile.largest]
    edges = EDGES[: profile.edges]
    if dtype != "float32":
        edges, layers = edges[: max(8, len(edges) // 3)], layers[::3]
    cases = []
    for seed, shape in enumerate((*edges, *layers)):
        last = math.prod(shape) // shape[1] - 1
        cases.append(Case(dtype=dtype, shape=shape, data="bell", location=1.0, eps=2.0**-10, seed=seed))
        cases.append(_spiky(dtype, shape, last, seed))
    return cases


shapes = Pool("shapes", listed=_shape_cases, few=10)


def _large_cases(dtype: str, _: Profile) -> list[Case]:
    """Exact data, doubled again and again until the values themselves would overflow."""
    last = math.floor(math.log2(FORMATS[dtype].largest / 10)) - 1  # no value of the pattern exceeds 10 deviations
    if dtype == "float64":
        last = last // 2 - 4  # as far as the float64 reference can square
    step = {"float64": 32, "float16": 1}.get(dtype, 4)
    plain = Case(dtype=dtype, shape=(4, 3), data="exact 3", eps=1.0)
    return [replace(plain, scale=2.0**k) for k in range(0, last + 1, step)]


large = Pool("large", listed=_large_cases)


# -- the edges --------------------------------------------------------------------------------------------------------


def _edges(name: str, *shapes: tuple[int, ...]) -> Pool:
    return Pool(
        name, listed=lambda dtype, _: [Case(dtype=dtype, shape=s, data="bell", seed=i) for i, s in enumerate(shapes)]
    )


single = _edges("single", (1, 3), (1, 2, 1), (1, 3, 1, 1), (1, 2, 1, 1, 1))
empty = _edges("empty", (0, 3), (0, 2, 4), (0, 3, 2, 2), (2, 3, 0))


def _every_batch_cases(pick: Pick, dtype: str) -> Case:
    size, values = pick(((2, 3), (3, 3), (4, 3), (2, 4), (3, 4), (4, 4)))
    scale = pick((1.0, 0.5, 2.0))
    return Case(
        dtype=dtype,
        shape=(size, values**size),
        data=f"every batch of {size} from {values}",
        seed=pick(SEEDS),
        scale=scale,
        eps=4 * scale**2,  # near the variances, which are then read out of y as well as can be
        momentum=0.5,
    )


every_batch = Pool("every batch", _every_batch_cases, share=0.2)

ranks = _edges(
    "ranks", (4, 3), (4, 1), (6, 5, 2), (6, 1, 2), (4, 3, 2, 5), (4, 1, 2, 3), (4, 5, 2, 3, 2), (4, 1, 2, 3, 2)
)
"""Every rank, with one channel and with an odd number of them; no product of other axes is that number."""

ARTICLE_SHAPE = (2, 2, 2, 2)
article = Pool(
    "article",
    lambda pick, dtype: Case(dtype=dtype, shape=ARTICLE_SHAPE, data="bell", seed=pick(SEEDS), eps=1e-5, momentum=0.1),
    share=0.15,
)
