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
from normspec.conformance.cases.arithmetic import GRADES, REFERENCE, Arithmetic
from normspec.conformance.cases.cases import Array, Case, Inputs, laid_out
from normspec.conformance.cases.given import Values, given, given_to
from normspec.conformance.cases.operations import (
    LIKE,
    METHODS,
    OF_METHOD,
    OPERATIONS,
    STATE,
    Arrangement,
    Method,
    dtype_of,
)
from normspec.conformance.predictions import bounds, prediction
from normspec.conformance.predictions.calls import KINDS, Part, alone, part_of
from normspec.conformance.predictions.prediction import Expected
from normspec.conformance.trials.adapters import Backend, Crashed, NotOffered, call, called, described, text, told
from normspec.reference import Rules

Trace = Mapping[str, NDArray[Any]]


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
        return OPERATIONS[self.operation].rules


# -- one call ---------------------------------------------------------------------------------------------------------


def offered(backend: Backend, method: str) -> Callable[..., Any]:
    """The adapter's function of that name. Raises NotOffered."""
    function = getattr(backend.adapter, method, None)
    if not callable(function):
        raise NotOffered(f"the adapter has no {method}")
    return function  # type: ignore[no-any-return]


def handed_over(method: Method, case: Case, values: Values) -> dict[str, NDArray[Any]]:
    """The arrays that a method is given, by name: fresh ones, which a backend may be given."""
    like_x = case.layout if case.layout != "zero stride" else "contiguous"
    layouts = {"x": case.layout, "dy": case.dy_layout or like_x}
    of_others = "strided" if case.layout == "strided" else "contiguous"
    return {
        name: laid_out(getattr(values, name), dtype_of(name, case.dtype), layouts.get(name, of_others))
        for name in method.arguments
    }


def called_with(
    method: Method, backend: Backend, case: Case, arrays: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """What a method of the backend returns for these arrays. Raises NotOffered or Crashed."""
    shapes = [arrays[like].shape if (like := LIKE[name]) in arrays else case.shape for name in method.results]
    options = {name: method.option(name, case) for name in method.options}
    results = call(offered(backend, method.name), method.results, shapes, *arrays.values(), **options)
    return dict(zip(method.results, results, strict=True))


def run(method: Method, backend: Backend, case: Case, values: Values) -> dict[str, NDArray[Any]]:
    """The trace of one call: the results, and of an evaluation what the given state holds after it."""
    offered(backend, method.name)
    arrays = handed_over(method, case, values)
    seen = {**arrays, **called_with(method, backend, case, arrays)}
    return {name: seen[name] for name in method.traced}


run_train, run_evaluate = partial(run, METHODS["train"]), partial(run, METHODS["evaluate"])


def _of_one_call(method: Method) -> Experiment:
    """The experiment that calls a method once."""
    operation = OF_METHOD[method.name]

    def parts(case: Case, _: Trace) -> Sequence[Part]:
        return [part_of(operation, method, case, given_to(operation, case))]

    return Experiment(
        method.name,
        lambda backend, case: run(method, backend, case, given_to(operation, case)),
        partial(_predicted, parts),
        operation=operation.name,
        parts=parts if method.kind in KINDS else None,
    )


def _predicted(
    parts: Callable[[Case, Trace], Sequence[Part]], case: Case, rules: Rules, arithmetic: Arithmetic, trace: Trace
) -> Mapping[str, Expected]:
    """What must come of these calls: made part by part as it is asked for, as most rules are refuted by the first."""
    told = _Lazy()
    for part in parts(case, trace):
        told.add(list(part.results.values()), partial(alone, part, rules, arithmetic))
    return told


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


EXPERIMENTS: Mapping[str, Experiment] = {name: _of_one_call(method) for name, method in METHODS.items()}
"""One call of every method, by its name."""


TRAIN, EVALUATE = EXPERIMENTS["train"], EXPERIMENTS["evaluate"]
TRAIN_GRADIENTS, EVALUATE_GRADIENTS = EXPERIMENTS["train_gradients"], EXPERIMENTS["evaluate_gradients"]
LAYER_NORM, LAYER_NORM_GRADIENTS = EXPERIMENTS["layer_norm"], EXPERIMENTS["layer_norm_gradients"]
RMS_NORM, RMS_NORM_GRADIENTS = EXPERIMENTS["rms_norm"], EXPERIMENTS["rms_norm_gradients"]
INSTANCE_NORM, INSTANCE_NORM_GRADIENTS = EXPERIMENTS["instance_norm"], EXPERIMENTS["instance_norm_gradients"]
INSTANCE_NORM_TRAIN, INSTANCE_NORM_EVALUATE = (
    EXPERIMENTS["instance_norm_train"], EXPERIMENTS["instance_norm_evaluate"],
)  # fmt: skip
GROUP_NORM, GROUP_NORM_GRADIENTS = EXPERIMENTS["group_norm"], EXPERIMENTS["group_norm_gradients"]
WEIGHT_NORM, WEIGHT_NORM_GRADIENTS = EXPERIMENTS["weight_norm"], EXPERIMENTS["weight_norm_gradients"]
L1_BATCH_NORM, L1_BATCH_NORM_GRADIENTS = EXPERIMENTS["l1_batch_norm"], EXPERIMENTS["l1_batch_norm_gradients"]
GENERALIZED_BATCH_NORM, GENERALIZED_BATCH_NORM_GRADIENTS = (
    EXPERIMENTS["generalized_batch_norm"], EXPERIMENTS["generalized_batch_norm_gradients"],
)  # fmt: skip
LINEAR_NORM, LINEAR_NORM_GRADIENTS = EXPERIMENTS["linear_norm"], EXPERIMENTS["linear_norm_gradients"]
SPLIT, SPLIT_GRADIENTS = EXPERIMENTS["train_split"], EXPERIMENTS["train_split_gradients"]


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
    y, bound = TRAIN.predict(case, rules, arithmetic, trace)["y"]
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
    told = TRAIN.predict(case, rules, arithmetic, trace)
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


def _layer_parts(case: Case, trace: Trace, momentum: float | None) -> Sequence[Part]:
    """Every step and every evaluation of a layer, each from the state that was observed before it.

    So one step's rounding is not carried into the next. What a layer starts from is another claim's business: the
    first step, too, goes on from what was observed. The last is one more: a layer must be back in training then, and
    count on from where it was.
    """
    seen, last = batches(case), case.steps + 1
    parts: list[Part] = []

    def part(kind: str, x: Array, at: str, to: str, step: int, previous: Part | None = None) -> Part:
        state = {name: trace[f"{name}{at}"].astype(np.float64) for name in STATE}
        values, place = seen[0]._replace(x=x, dy=np.zeros_like(x), **state), Arrangement("channels", x.shape)
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


def _of_layer(name: str, *, cumulative: bool) -> Experiment:
    """The experiment that trains and evaluates a layer, with the momentum of the case or with None."""

    def parts(case: Case, trace: Trace) -> Sequence[Part]:
        return _layer_parts(case, trace, None if cumulative else case.momentum)

    return Experiment(
        name,
        lambda backend, case: _observe_layer(backend, case, None if cumulative else case.momentum),
        partial(_predicted, parts),
        layer=True,
        parts=parts,
    )


LAYER = _of_layer("layer, step by step", cumulative=False)
CUMULATIVE = _of_layer("layer with momentum None", cumulative=True)


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
