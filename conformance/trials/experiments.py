"""What is done with a case: an experiment runs a backend on it and predicts, under any rules, what must come out.

`observe` gives a trace: arrays by name. `predict` gives the same names with value and bound. A name is a quantity, with
"@" and a step or a situation behind it where there are several.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normspec import reference
from normspec.conformance.cases.arithmetic import GRADES, REFERENCE, Arithmetic, parameter_dtype
from normspec.conformance.cases.cases import Array, Case, Inputs, inputs, laid_out
from normspec.conformance.cases.memory import kept_by_size
from normspec.conformance.predictions import bounds, prediction
from normspec.conformance.predictions.prediction import Expected
from normspec.conformance.predictions.stacks import Part, by_channel
from normspec.conformance.trials.adapters import Backend, Crashed, NotOffered, call, called, described, text, told
from normspec.reference import ARTICLE, Rules, relatives

OPERATIONS: Mapping[str, Rules] = {
    "batch norm": ARTICLE,
    "layer norm": relatives.LAYER,
    "instance norm": relatives.INSTANCE,
    "group norm": relatives.GROUP,
    "rms norm": relatives.RMS,
    "weight norm": relatives.WEIGHT,
    "l1 batch norm": relatives.L1,
    "generalized batch norm": relatives.GENERALIZED,
    "linear norm": ARTICLE,
    "train split": ARTICLE,
}
"""The rules of every operation, by name."""
Trace = Mapping[str, NDArray[Any]]
STATE = ("running_mean", "running_var")


@dataclass(frozen=True)
class Experiment:
    """One way to question a backend."""

    name: str
    observe: Callable[[Backend, Case], Trace]
    predict: Callable[[Case, Rules, Arithmetic, Trace], Mapping[str, Expected]]
    layer: bool = False
    """Whether the framework's layer is questioned, rather than its operation."""
    operation: str = "batch norm"
    """What is normalized, by the name that claims use."""
    parts: Callable[[Case, Trace], Sequence[Part]] | None = None
    """The single calls that it is made of, for predictions of many cases at once."""

    @property
    def base(self) -> Rules:
        """The rules of the operation itself, in which rivals replace a choice."""
        return OPERATIONS[self.operation]


@kept_by_size(4096)
def given(case: Case) -> Inputs:
    """The arrays of a case, made once and not to be written to."""
    made = inputs(case)
    for array in made:
        array.flags.writeable = False
    return made


def handed_over(case: Case, values: Inputs) -> list[NDArray[Any]]:
    """x, weight, bias, running mean and variance, and dy, as fresh arrays that a backend may be given."""
    small = parameter_dtype(case.dtype)
    x = laid_out(values.x, case.dtype, case.layout)
    dy = laid_out(
        values.dy, case.dtype, case.dy_layout or (case.layout if case.layout != "zero stride" else "contiguous")
    )
    of_channels = "strided" if case.layout == "strided" else "contiguous"
    return [x, *(laid_out(a, small, of_channels) for a in values[1:5]), dy]


# -- the operation ----------------------------------------------------------------------------------------------------


def offered(backend: Backend, method: str) -> Callable[..., Any]:
    """The adapter's function of that name. Raises NotOffered."""
    function = getattr(backend.adapter, method, None)
    if not callable(function):
        raise NotOffered(f"the adapter has no {method}")
    return function  # type: ignore[no-any-return]


def run_train(backend: Backend, case: Case, values: Inputs, method: str = "train") -> dict[str, NDArray[Any]]:
    """One training step of the backend."""
    arrays = handed_over(case, values)[:5]
    shapes = (arrays[0].shape, arrays[3].shape, arrays[4].shape)
    names = ("y", *STATE)
    results = call(offered(backend, method), names, shapes, *arrays, momentum=case.momentum, eps=case.eps)
    return dict(zip(names, results, strict=True))


def run_evaluate(backend: Backend, case: Case, values: Inputs, method: str = "evaluate") -> dict[str, NDArray[Any]]:
    """One evaluation, and what the given state holds after it."""
    arrays = handed_over(case, values)[:5]
    (y,) = call(offered(backend, method), ("y",), (arrays[0].shape,), *arrays, eps=case.eps)
    return {"y": y, "running_mean": arrays[3], "running_var": arrays[4]}


def run_gradients(backend: Backend, case: Case, values: Inputs, method: str) -> dict[str, NDArray[Any]]:
    """The backend's own dx, dweight and dbias, by `train_gradients` or `evaluate_gradients`."""
    function = offered(backend, method)
    x, weight, bias, mean, var, dy = handed_over(case, values)
    arrays = (x, weight, bias, dy) if method == "train_gradients" else (x, weight, bias, mean, var, dy)
    names = ("dx", "dweight", "dbias")
    results = call(function, names, (x.shape, weight.shape, bias.shape), *arrays, eps=case.eps)
    return dict(zip(names, results, strict=True))


def _predict_train(case: Case, rules: Rules, arithmetic: Arithmetic, _: Trace) -> Mapping[str, Expected]:
    return prediction.train(given(case), rules, arithmetic, eps=case.eps, momentum=case.momentum)


def _predict_evaluate(case: Case, rules: Rules, arithmetic: Arithmetic, _: Trace) -> Mapping[str, Expected]:
    values = given(case)
    state = {name: Expected(getattr(values, name), np.zeros(case.shape[1])) for name in STATE}
    if rules.evaluation_state == "updated":
        # evaluate is given no momentum: an update that should not happen can only use the default.
        moved = prediction.train(values, rules, arithmetic, eps=case.eps, momentum=0.1)
        state = {name: moved[name] for name in STATE}
    return {**prediction.evaluate(values, rules, arithmetic, eps=case.eps), **state}


def _parts(kind: str, results: Sequence[str], momentum: float | None = None) -> Callable[[Case, Trace], Sequence[Part]]:
    """The one call of an experiment on batch norm; `momentum` where it is not the case's."""
    names = {name: name for name in results}

    def parts(case: Case, _: Trace) -> Sequence[Part]:
        place, of = by_channel(case.shape), case.momentum if momentum is None else momentum
        return [Part(kind, names, names, given(case), place, case.eps, of)]

    return parts


TRAIN = Experiment(
    "train",
    lambda backend, case: run_train(backend, case, given(case)),
    _predict_train,
    parts=_parts("train", ("y", *STATE)),
)
# evaluate is given no momentum: an update that should not happen can only use the default.
EVALUATE = Experiment(
    "evaluate",
    lambda backend, case: run_evaluate(backend, case, given(case)),
    _predict_evaluate,
    parts=_parts("evaluate", ("y", *STATE), 0.1),
)
TRAIN_GRADIENTS = Experiment(
    "train_gradients",
    lambda backend, case: run_gradients(backend, case, given(case), "train_gradients"),
    lambda case, rules, arithmetic, _: prediction.train_gradients(given(case), rules, arithmetic, eps=case.eps),
    parts=_parts("train gradients", ("dx", "dweight", "dbias")),
)
EVALUATE_GRADIENTS = Experiment(
    "evaluate_gradients",
    lambda backend, case: run_gradients(backend, case, given(case), "evaluate_gradients"),
    lambda case, rules, arithmetic, _: prediction.evaluate_gradients(given(case), rules, arithmetic, eps=case.eps),
    parts=_parts("evaluate gradients", ("dx", "dweight", "dbias")),
)


# -- several calls of the operation -----------------------------------------------------------------------------------


def _standardized(case: Case, y: NDArray[Any]) -> tuple[Array, Array]:
    axes = (0, *range(2, len(case.shape)))
    wide = y.astype(np.float64)
    return wide.mean(axes), np.square(wide - wide.mean(axes, keepdims=True)).mean(axes)


def _observe_moments(backend: Backend, case: Case) -> Trace:
    mean, var = _standardized(case, run_train(backend, case, given(case))["y"])
    return {"mean": mean, "variance": var}


@np.errstate(all="ignore")
def _predict_moments(case: Case, rules: Rules, arithmetic: Arithmetic, trace: Trace) -> Mapping[str, Expected]:
    y, bound = _predict_train(case, rules, arithmetic, trace)["y"]
    mean, var = _standardized(case, y)
    axes = (0, *range(2, len(case.shape)))
    reach = bound.max(axes)
    return {"mean": Expected(mean, reach), "variance": Expected(var, 4 * reach * np.sqrt(var) + 4 * reach**2)}


MOMENTS = Experiment("moments of x-hat", _observe_moments, _predict_moments)


def _other_company(case: Case) -> Inputs:
    """The case with every sample but the first replaced."""
    x = given(replace(case, seed=case.seed + 1)).x.copy()
    x[0] = given(case).x[0]
    return given(case)._replace(x=x)


def _observe_coupling(backend: Backend, case: Case) -> Trace:
    before, after = (run_train(backend, case, v)["y"][0] for v in (given(case), _other_company(case)))
    return {"change": after.astype(np.float64) - before}


def _predict_coupling(case: Case, rules: Rules, arithmetic: Arithmetic, _: Trace) -> Mapping[str, Expected]:
    before, after = (
        prediction.train(values, rules, arithmetic, eps=case.eps, momentum=case.momentum)["y"]
        for values in (given(case), _other_company(case))
    )
    return {"change": Expected((after.value - before.value)[0], (after.bound + before.bound)[0])}


COUPLING = Experiment("first sample in another batch", _observe_coupling, _predict_coupling)


def _regrouped(case: Case) -> dict[str, tuple[Case, Inputs]]:
    """The samples of a case alone, in reverse, and doubled, each with a case of fitting shape."""
    values, batch = given(case), case.shape[0]
    made = {
        "alone": values._replace(x=values.x[:1]),
        "reversed": values._replace(x=values.x[::-1]),
        "doubled": values._replace(x=np.concatenate([values.x, values.x])),
    }
    sizes = {"alone": 1, "reversed": batch, "doubled": 2 * batch}
    return {
        name: (replace(case, shape=(sizes[name], *case.shape[1:])), v._replace(dy=np.zeros_like(v.x)))
        for name, v in made.items()
    }


def _observe_regrouped(backend: Backend, case: Case) -> Trace:
    return {f"y@{name}": run_evaluate(backend, c, v)["y"] for name, (c, v) in _regrouped(case).items()}


def _predict_regrouped(case: Case, rules: Rules, arithmetic: Arithmetic, _: Trace) -> Mapping[str, Expected]:
    return {
        f"y@{name}": prediction.evaluate(values, rules, arithmetic, eps=case.eps)["y"]
        for name, (_, values) in _regrouped(case).items()
    }


REGROUPED = Experiment("samples regrouped", _observe_regrouped, _predict_regrouped)


def _observe_repeated(backend: Backend, case: Case) -> Trace:
    values = given(case)
    result: dict[str, NDArray[Any]] = {}
    for _ in range(case.steps):
        result = run_train(backend, case, values)
        values = values._replace(
            running_mean=result["running_mean"].astype(np.float64), running_var=result["running_var"].astype(np.float64)
        )
    return {name: result[name] for name in STATE}


def _predict_repeated(case: Case, rules: Rules, arithmetic: Arithmetic, _: Trace) -> Mapping[str, Expected]:
    values = given(case)
    carried: tuple[Array | float, Array | float] = (0.0, 0.0)
    result: Mapping[str, Expected] = {}
    for _step in range(case.steps):
        result = prediction.train(values, rules, arithmetic, eps=case.eps, momentum=case.momentum, carried=carried)
        values = values._replace(running_mean=result["running_mean"].value, running_var=result["running_var"].value)
        carried = (result["running_mean"].bound, result["running_var"].bound)
    return {name: result[name] for name in STATE}


REPEATED = Experiment("one batch repeated", _observe_repeated, _predict_repeated)


def _averaged(values: Array, bound: Array) -> Expected:
    """The mean over all channels; a sum of float64 numbers on both sides."""
    added = bounds.growth(values.size, GRADES["float64"][0]) * abs(values).mean()
    return Expected(values.mean(keepdims=True), bound.mean(keepdims=True) + added)


def _scatter(values: Array, bound: Array) -> Expected:
    """The variance over all channels. Values off by e change it by 2 mean((v - mean) e) + var(e)."""
    deviation = values - values.mean()
    moved = 2 * (abs(deviation) * bound).mean(keepdims=True) + np.square(bound).mean(keepdims=True)
    added = bounds.growth(values.size, GRADES["float64"][0]) * np.square(abs(values) + abs(values.mean())).mean()
    return Expected(np.square(deviation).mean(keepdims=True), moved + 4 * added)


def _variance_behind(case: Case, y: Array, bound: Array) -> tuple[Array, Array]:
    """The variance that normalized each channel, read out of the spread of y: s = v / (v + eps) where weight is 1.

    s is off by as much as in `MOMENTS`, and by float64's rounding; v = eps s / (1 - s) grows with it.
    """
    _, spread = _standardized(case, y)
    reach = bound.max(0)
    moved = 4 * reach * np.sqrt(spread) + 4 * reach**2 + bounds.growth(len(y), GRADES["float64"][0]) * (1 + spread)

    def behind(spread: Array) -> Array:
        return case.eps * spread / np.maximum(1 - spread, 0)

    v, low, high = behind(spread), behind(np.maximum(spread - moved, 0)), behind(spread + moved)
    return v, np.maximum(high - v, v - low) + 8 * REFERENCE * v


def _averages(case: Case, y: Expected, mean: Expected, var: Expected) -> dict[str, Expected]:
    """Over all batches, each a channel. The state was 0, so that what is tracked of a batch comes with momentum."""
    means, variances = (Expected(value / case.momentum, bound / case.momentum) for value, bound in (mean, var))
    return {
        "mean of means": _averaged(*means),
        "variance of means": _scatter(*means),
        "mean of variances": _averaged(*variances),
        "mean of m-variances": _averaged(*_variance_behind(case, *y)),
    }


@np.errstate(all="ignore")
def _observe_every_batch(backend: Backend, case: Case) -> Trace:
    got = run_train(backend, case, given(case))
    exact = (Expected(a.astype(np.float64), np.zeros(a.shape)) for a in (got["y"], *(got[n] for n in STATE)))
    return {name: value for name, (value, _) in _averages(case, *exact).items()}


@np.errstate(all="ignore")
def _predict_every_batch(case: Case, rules: Rules, arithmetic: Arithmetic, trace: Trace) -> Mapping[str, Expected]:
    told = _predict_train(case, rules, arithmetic, trace)
    return _averages(case, told["y"], *(told[name] for name in STATE))


EVERY_BATCH = Experiment("every batch from a population", _observe_every_batch, _predict_every_batch)


# -- the layer --------------------------------------------------------------------------------------------------------


def new_layer(backend: Backend, case: Case, **options: float | None) -> Any:
    """A layer of the backend for the case's shape."""
    build = offered(backend, "layer")
    try:
        layer = called(build, case.shape[1], ndim=len(case.shape), dtype=case.dtype, **options)
    except NotImplementedError as error:
        raise NotOffered(text(error) or "layer is not implemented") from None
    except (NotOffered, Crashed):
        raise
    except (Exception, SystemExit, GeneratorExit) as error:
        raise Crashed(f"layer raised {told(error)}", refusal=isinstance(error, Exception)) from error
    if not all(callable(getattr(layer, method, None)) for method in ("train", "evaluate", "state")):
        came = described(layer)
        raise Crashed(f"layer returned {came}; expected an object with train, evaluate and state", refusal=False)
    return layer


def state_of(layer: Any, channels: int | None, names: tuple[str, ...] = STATE) -> dict[str, NDArray[Any]]:
    """A copy of the layer's state: one value for each of `channels`; where that is None, of whatever shape it has."""

    def state() -> Any:
        held = layer.state()
        return tuple(held[name] for name in names)

    held = call(state, names, [None if channels is None else (channels,)] * len(names))
    return {name: array.copy() for name, array in zip(names, held, strict=True)}


def batches(case: Case) -> list[Inputs]:
    """`steps` batches of a case, each of another seed, every second of twice as many samples; weight 1 and bias 0."""
    samples, *rest = case.shape
    return [
        given(replace(case, seed=case.seed + 1000 * i, parameters="unit", shape=(samples * (1 + i % 2), *rest)))
        for i in range(case.steps)
    ]


def run_layer(function: Any, case: Case, x: Array) -> NDArray[Any]:
    """y of a layer's `train` or `evaluate`."""
    (y,) = call(function, ("y",), (x.shape,), laid_out(x, case.dtype, case.layout))
    return y


def _observe_layer(backend: Backend, case: Case, momentum: float | None) -> Trace:
    layer = new_layer(backend, case, eps=case.eps, momentum=momentum)
    channels = case.shape[1]
    trace = {f"{name}@0": value for name, value in state_of(layer, channels).items()}
    for step, batch in enumerate(batches(case), 1):
        trace[f"y@{step}"] = run_layer(layer.train, case, batch.x)
        trace.update({f"{name}@{step}": value for name, value in state_of(layer, channels).items()})
    for name, x in {"batch": batch.x, "alone": batch.x[:1]}.items():
        trace[f"evaluation@{name}"] = run_layer(layer.evaluate, case, x)
        trace.update({f"{n} after evaluation@{name}": value for n, value in state_of(layer, channels).items()})
    last = case.steps + 1
    trace[f"y@{last}"] = run_layer(layer.train, case, batches(case)[0].x)
    trace.update({f"{name}@{last}": value for name, value in state_of(layer, channels).items()})
    return trace


def _predict_layer(
    case: Case, rules: Rules, arithmetic: Arithmetic, trace: Trace, momentum: float | None
) -> Mapping[str, Expected]:
    """Each step from the state observed before it, so that one step's rounding is not carried into the next.

    What a layer starts from is another claim's business: the first step, too, goes on from what was observed.
    """
    seen, last = batches(case), case.steps + 1

    def before(x: Array, at: str) -> Inputs:
        return seen[0]._replace(x=x, **{name: trace[f"{name}{at}"].astype(np.float64) for name in STATE})

    def trained(x: Array, at: str, step: int) -> Mapping[str, Expected]:
        previous = seen[step - 2].x if step > 1 else None
        options = {"eps": case.eps, "momentum": momentum, "step": step, "previous": previous}
        return prediction.train(before(x, at), rules, arithmetic, **options)  # type: ignore[arg-type]

    def training(step: int, x: Array, at: str) -> Mapping[str, Expected]:
        return {f"{name}@{step}": expected for name, expected in trained(x, at, step).items()}

    def evaluation(name: str, x: Array, at: str) -> Mapping[str, Expected]:
        values = before(x, at)
        y = prediction.evaluate(values, rules, arithmetic, eps=case.eps)["y"]
        state: Mapping[str, Expected] = {n: Expected(getattr(values, n), np.zeros(case.shape[1])) for n in STATE}
        if rules.evaluation_state != "frozen":
            state = trained(x, at, last)
        return {f"evaluation@{name}": y, **{f"{n} after evaluation@{name}": state[n] for n in STATE}}

    parts = _Lazy()
    for step, batch in enumerate(seen, 1):
        parts.add([f"{n}@{step}" for n in ("y", *STATE)], partial(training, step, batch.x, f"@{step - 1}"))
    at = f"@{case.steps}"
    for name, x in {"batch": seen[-1].x, "alone": seen[-1].x[:1]}.items():
        state = [f"{n} after evaluation@{name}" for n in STATE]
        parts.add([f"evaluation@{name}", *state], partial(evaluation, name, x, at))
        at = f" after evaluation@{name}"
    # One more step: a layer must be back in training, and count on from where it was.
    parts.add([f"{n}@{last}" for n in ("y", *STATE)], partial(training, last, seen[0].x, at))
    return parts


def _layer_parts(case: Case, trace: Trace, momentum: float | None) -> Sequence[Part]:
    """Every step and every evaluation of a layer, each from the state that was observed before it."""
    seen, last = batches(case), case.steps + 1
    parts: list[Part] = []

    def part(kind: str, x: Array, at: str, to: str, step: int, previous: Part | None = None) -> Part:
        state = {name: trace[f"{name}{at}"].astype(np.float64) for name in STATE}
        values, place = seen[0]._replace(x=x, dy=np.zeros_like(x), **state), by_channel(x.shape)
        if kind == "train":
            quantities = {name: name for name in ("y", *STATE)}
            results = {name: f"{name}@{to}" for name in quantities}
        else:
            quantities = {"y": "evaluation", **{name: f"{name} after evaluation" for name in STATE}}
            results = {name: f"{quantity}@{to}" for name, quantity in quantities.items()}
        return Part(kind, quantities, results, values, place, case.eps, momentum, step, previous)

    for step, batch in enumerate(seen, 1):
        parts.append(part("train", batch.x, f"@{step - 1}", str(step), step, parts[-1] if parts else None))
    before, at = parts[-1], f"@{case.steps}"
    for name, x in {"batch": seen[-1].x, "alone": seen[-1].x[:1]}.items():
        parts.append(part("evaluate", x, at, name, last, before))
        at = f" after evaluation@{name}"
    parts.append(part("train", seen[0].x, at, str(last), last, before))
    return parts


class _Lazy(Mapping[str, Expected]):
    """Predictions, made part by part as they are asked for: most formulas are refuted by the first."""

    def __init__(self) -> None:
        self._parts: dict[str, Callable[[], Mapping[str, Expected]]] = {}

    def add(self, names: Sequence[str], make: Callable[[], Mapping[str, Expected]]) -> None:
        """Enter a part: the names in it, and what makes it."""
        self._parts.update(dict.fromkeys(names, cache(make)))

    def __getitem__(self, name: str) -> Expected:
        return self._parts[name]()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


def undisturbed(case: Case) -> dict[str, Array]:
    """The state of a layer that follows the article without any rounding, after every step."""
    state = [np.zeros(case.shape[1]), np.ones(case.shape[1])]
    trace = {f"{name}@0": value for name, value in zip(STATE, state, strict=True)}
    for step, batch in enumerate([*batches(case), batches(case)[0]], 1):
        given_now = (batch.x, batch.weight, batch.bias, *state)
        if step > case.steps:  # evaluated meanwhile
            trace.update(
                {
                    f"{name} after evaluation@{x}": trace[f"{name}@{step - 1}"]
                    for name in STATE
                    for x in ("batch", "alone")
                }
            )
        _, *state = reference.train(*given_now, momentum=case.momentum, eps=case.eps)
        trace.update({f"{name}@{step}": value for name, value in zip(STATE, state, strict=True)})
    return trace


LAYER = Experiment(
    "layer, step by step",
    lambda backend, case: _observe_layer(backend, case, case.momentum),
    lambda case, rules, arithmetic, trace: _predict_layer(case, rules, arithmetic, trace, case.momentum),
    layer=True,
    parts=lambda case, trace: _layer_parts(case, trace, case.momentum),
)
CUMULATIVE = Experiment(
    "layer with momentum None",
    lambda backend, case: _observe_layer(backend, case, None),
    lambda case, rules, arithmetic, trace: _predict_layer(case, rules, arithmetic, trace, None),
    layer=True,
    parts=lambda case, trace: _layer_parts(case, trace, None),
)


def _observe_fresh(backend: Backend, case: Case) -> Trace:
    layer = new_layer(backend, case, eps=case.eps)
    return {"y": run_layer(layer.evaluate, case, given(case).x)}


def _predict_fresh(case: Case, rules: Rules, arithmetic: Arithmetic, _: Trace) -> Mapping[str, Expected]:
    channels = case.shape[1]
    values = given(replace(case, parameters="unit"))._replace(
        running_mean=np.zeros(channels), running_var=np.full(channels, float(rules.initial_var))
    )
    return prediction.evaluate(values, rules, arithmetic, eps=case.eps)


FRESH = Experiment("new layer in evaluation", _observe_fresh, _predict_fresh, layer=True)
