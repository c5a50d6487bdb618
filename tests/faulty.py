"""Faulty backends: each is wrong in one thing, and names the claim and the rival that must be blamed for it.

Those whose rival is a formula come from the reference under that formula (`RulesBackend`). The others change one thing
of the NumPy adapter; their docstrings say what.
"""

import os
import random
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from networks import Network

from normspec import reference
from normspec.backends.numpy import Layer, NumPy
from normspec.conformance.cases.arithmetic import DTYPES
from normspec.conformance.cases.operations import OPERATIONS
from normspec.conformance.claims.claims import CLAIMS, Rival
from normspec.conformance.trials.adapters import Backend
from normspec.reference import ARTICLE, Rules, linear, relatives, split

FAULTS: dict[tuple[str, str], Callable[[], Any]] = {}
"""Faulty adapters by the claim and the rival that they must be blamed for."""

NARROW = "narrow sums"
DTYPE = {
    ("precision.half-statistics", "half steps"): "float16",
    ("precision.half-statistics", "narrow"): "float16",
    ("precision.half-gradients", "half steps"): "float16",
    ("precision.half-gradients", "narrow"): "float16",
    ("precision.large-finite", "squares overflow early"): "float16",
    ("relatives.half-statistics", "half steps"): "float16",
    ("relatives.half-statistics", "narrow"): "float16",
    ("precision.within-bound", NARROW): "float64",
    ("precision.cancellation", NARROW): "float64",
    ("precision.extent", NARROW): "float64",
}
"""Where a fault is looked for in another dtype than float32."""


def backend(adapter: Any, name: str = "faulty") -> Backend:
    """An adapter object as the suite would have opened it."""
    return Backend(name=name, spec=name, version="1", dtypes=DTYPES, adapter=adapter)


class RulesBackend:
    """The reference under any rules, rounded to the dtype asked for."""

    def __init__(self, rules: Rules = ARTICLE, *, layer_rules: Rules | None = None) -> None:
        self.rules, self.layer_rules = rules, layer_rules or rules

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        results = reference.train(
            *_wide(x, weight, bias, running_mean, running_var), momentum=momentum, eps=eps, rules=self.rules
        )
        return _rounded(results, x, running_mean, running_var)

    def evaluate(self, x, weight, bias, running_mean, running_var, *, eps):
        y = reference.evaluate(*_wide(x, weight, bias, running_mean, running_var), eps=eps, rules=self.rules)
        if self.rules.evaluation_state == "updated":
            _, running_mean[:], running_var[:] = self.train(
                x, weight, bias, running_mean, running_var, momentum=0.1, eps=eps
            )
        return _rounded((y,), x)[0]

    def train_gradients(self, x, weight, bias, dy, *, eps):
        results = reference.train_gradients(*_wide(x, weight, bias, dy), eps=eps, rules=self.rules)
        return _rounded(results, x, weight, bias)

    def evaluate_gradients(self, x, weight, bias, running_mean, running_var, dy, *, eps):
        results = reference.evaluate_gradients(
            *_wide(x, weight, bias, running_mean, running_var, dy), eps=eps, rules=self.rules
        )
        return _rounded(results, x, weight, bias)

    def layer(self, num_features, *, ndim, dtype, **options):
        return RulesLayer(num_features, self.layer_rules, dtype, **options)


class RulesLayer:
    """A layer with memory, so that rules which look back can be followed."""

    def __init__(self, num_features, rules, dtype, eps=None, momentum="default"):
        kept = np.float64 if dtype == "float64" else np.float32
        self.rules, self.step, self.previous = rules, 0, None
        self.eps = rules.default_eps if eps is None else eps
        self.momentum = rules.default_momentum if momentum == "default" else momentum
        self.values = {
            "weight": np.ones(num_features, kept),
            "bias": np.zeros(num_features, kept),
            "running_mean": np.zeros(num_features, kept),
            "running_var": np.full(num_features, rules.initial_var, kept),
        }

    def train(self, x):
        self.step += 1
        wide = _wide(x, *self.values.values())
        y, mean, var = reference.train(
            *wide, momentum=self.momentum, eps=self.eps, rules=self.rules, step=self.step, previous=self.previous
        )
        self.previous = wide[0]
        y, self.values["running_mean"], self.values["running_var"] = _rounded(
            (y, mean, var), x, *[self.values["weight"]] * 2
        )
        return y

    def evaluate(self, x):
        y = reference.evaluate(*_wide(x, *self.values.values()), eps=self.eps, rules=self.rules)
        if self.rules.evaluation_state == "updated":
            self.train(x)
        return _rounded((y,), x)[0]

    def state(self):
        return self.values


def _wide(*arrays):
    return [np.asarray(a).astype(np.float64) for a in arrays]


def _rounded(results, *like):
    with np.errstate(over="ignore"):
        return tuple(np.array(r.astype(a.dtype)) for r, a in zip(results, like, strict=True))


def following(rival: Rival, *, in_layer: bool = False) -> RulesBackend:
    """The backend that follows a rival which is a formula: everywhere, or in its layer alone."""
    return RulesBackend(layer_rules=rival.rules()) if in_layer else RulesBackend(rival.rules())


class RulesRelatives(RulesBackend):
    """The relatives with some of their choices replaced, beside the article's batch norm."""

    def __init__(self, **change):
        super().__init__()
        self.change = change

    def _rules(self, operation):
        return replace(OPERATIONS[operation].rules, **self.change)

    def layer_norm(self, x, weight, bias, *, eps):
        y = relatives.layer_norm(*_wide(x, weight, bias), eps=eps, rules=self._rules("layer norm"))
        return _rounded((y,), x)[0]

    def layer_norm_gradients(self, x, weight, bias, dy, *, eps):
        rules = self._rules("layer norm")
        return _rounded(
            relatives.layer_norm_gradients(*_wide(x, weight, bias, dy), eps=eps, rules=rules), x, weight, bias
        )

    def rms_norm(self, x, weight, *, eps):
        return _rounded((relatives.rms_norm(*_wide(x, weight), eps=eps, rules=self._rules("rms norm")),), x)[0]

    def rms_norm_gradients(self, x, weight, dy, *, eps):
        rules = self._rules("rms norm")
        return _rounded(relatives.rms_norm_gradients(*_wide(x, weight, dy), eps=eps, rules=rules), x, weight)

    def instance_norm(self, x, weight, bias, *, eps):
        y = relatives.instance_norm(*_wide(x, weight, bias), eps=eps, rules=self._rules("instance norm"))
        return _rounded((y,), x)[0]

    def instance_norm_gradients(self, x, weight, bias, dy, *, eps):
        rules = self._rules("instance norm")
        return _rounded(
            relatives.instance_norm_gradients(*_wide(x, weight, bias, dy), eps=eps, rules=rules), x, weight, bias
        )

    def weight_norm(self, v, g):
        return _rounded((relatives.weight_norm(*_wide(v, g), rules=self._rules("weight norm")),), v)[0]

    def weight_norm_gradients(self, v, g, dw):
        rules = self._rules("weight norm")
        return _rounded(relatives.weight_norm_gradients(*_wide(v, g, dw), rules=rules), v, g)

    def group_norm(self, x, weight, bias, *, num_groups, eps):
        options = {"num_groups": num_groups, "eps": eps, "rules": self._rules("group norm")}
        return _rounded((relatives.group_norm(*_wide(x, weight, bias), **options),), x)[0]

    def group_norm_gradients(self, x, weight, bias, dy, *, num_groups, eps):
        options = {"num_groups": num_groups, "eps": eps, "rules": self._rules("group norm")}
        return _rounded(relatives.group_norm_gradients(*_wide(x, weight, bias, dy), **options), x, weight, bias)

    def l1_batch_norm(self, x, weight, bias, *, eps):
        y = relatives.l1_batch_norm(*_wide(x, weight, bias), eps=eps, rules=self._rules("l1 batch norm"))
        return _rounded((y,), x)[0]

    def l1_batch_norm_gradients(self, x, weight, bias, dy, *, eps):
        options = {"eps": eps, "rules": self._rules("l1 batch norm")}
        return _rounded(relatives.l1_batch_norm_gradients(*_wide(x, weight, bias, dy), **options), x, weight, bias)

    def generalized_batch_norm(self, x, weight, bias, **options):
        options["rules"] = self._rules("generalized batch norm")
        return _rounded((relatives.generalized_batch_norm(*_wide(x, weight, bias), **options),), x)[0]

    def generalized_batch_norm_gradients(self, x, weight, bias, dy, **options):
        options["rules"] = self._rules("generalized batch norm")
        results = relatives.generalized_batch_norm_gradients(*_wide(x, weight, bias, dy), **options)
        return _rounded(results, x, weight, bias)

    def linear_norm(self, u, w, b, weight, bias, *, eps):
        y = linear.linear_norm(*_wide(u, w, b, weight, bias), eps=eps, rules=self._rules("linear norm"))
        return _rounded((y,), u)[0]

    def linear_norm_gradients(self, u, w, b, weight, bias, dy, *, eps):
        options = {"eps": eps, "rules": self._rules("linear norm")}
        results = linear.linear_norm_gradients(*_wide(u, w, b, weight, bias, dy), **options)
        return _rounded(results, u, w, b, weight, bias)

    def instance_norm_train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        options = {"momentum": momentum, "eps": eps, "rules": self._rules("instance norm")}
        results = reference.train(*_wide(x, weight, bias, running_mean, running_var), **options)
        return _rounded(results, x, running_mean, running_var)

    def instance_norm_evaluate(self, x, weight, bias, running_mean, running_var, *, eps):
        rules = self._rules("instance norm")
        y = reference.evaluate(*_wide(x, weight, bias, running_mean, running_var), eps=eps, rules=rules)
        return _rounded((y,), x)[0]

    def train_split(self, x, weight, bias, running_mean, running_var, **options):
        arrays = _wide(x, weight, bias, running_mean, running_var)
        results = split.train_split(*arrays, rules=self._rules("train split"), **options)
        return _rounded(results, x, running_mean, running_var)

    def train_split_gradients(self, x, weight, bias, dy, **options):
        results = split.train_split_gradients(*_wide(x, weight, bias, dy), rules=self._rules("train split"), **options)
        return _rounded(results, x, weight, bias)


for _claim in CLAIMS.values():
    for _rival in _claim.rivals:
        if _claim.operation != "batch norm":
            FAULTS[_claim.id, _rival.name] = partial(RulesRelatives, **dict(_rival.change))
        elif _rival.change:  # what needs memory, only a layer can show
            _in_layer = _rival.layer or _claim.id.startswith("layer.")
            FAULTS[_claim.id, _rival.name] = partial(following, _rival, in_layer=_in_layer)


def fault(claim: str, rival: str) -> Callable[[type], type]:
    """Enter a faulty adapter under the claim and rival that must be blamed."""

    def enter(adapter: type) -> type:
        FAULTS[claim, rival] = adapter
        return adapter

    return enter


# -- defaults and initial state ---------------------------------------------------------------------------------------


class _OtherLayer(NumPy):
    """A layer with one of its initial values replaced."""

    change: dict[str, Any] = {}

    def layer(self, num_features, *, ndim, dtype, **options):
        made = Layer(num_features, np.promote_types(np.float32, "float32" if dtype == "bfloat16" else dtype), **options)
        for name, value in self.change.items():
            getattr(made, name)[:] = value
        return made


@fault("affine.defaults", "weight not 1")
class StartsWithAnotherWeight(_OtherLayer):
    """The weight starts at 0.5."""

    change = {"weight": 0.5}


@fault("affine.defaults", "bias not 0")
class StartsWithAnotherBias(_OtherLayer):
    """The bias starts at 0.1."""

    change = {"bias": 0.1}


@fault("running.initial", "variance not 1")
class StartsWithAnotherVariance(_OtherLayer):
    """The running variance starts at 0.5."""

    change = {"running_var": 0.5}


@fault("running.initial", "mean not 0")
class StartsWithAnotherMean(_OtherLayer):
    """The running mean starts at 1."""

    change = {"running_mean": 1.0}


@fault("running.single-value", "NaN or inf in the gradients")
class GradientsOfOneValue(NumPy):
    """Divides by m - 1 in the backward pass, and refuses one value in the forward pass alone."""

    def train_gradients(self, x, weight, bias, dy, **options):
        dx, dweight, dbias = super().train_gradients(x, weight, bias, dy, **options)
        return (dx if x.size > x.shape[1] else dx * np.nan), dweight, dbias


@fault("running.single-value", "NaN or inf in the state")
class DividesByZero(RulesBackend):
    """Divides by m - 1 whatever m is."""


# -- precision --------------------------------------------------------------------------------------------------------


class _Inner(NumPy):
    """Everything computed in another dtype, and rounded to the one asked for only at the end."""

    inner: Any = np.float32

    def _call(self, method, arrays, options):
        with np.errstate(all="ignore"):
            return getattr(NumPy, method)(self, *(a.astype(self.inner) for a in arrays), **options)

    def train(self, x, weight, bias, running_mean, running_var, **options):
        results = self._call("train", (x, weight, bias, running_mean, running_var), options)
        return tuple(r.astype(a.dtype) for r, a in zip(results, (x, running_mean, running_var), strict=True))

    def evaluate(self, x, weight, bias, running_mean, running_var, **options):
        return self._call("evaluate", (x, weight, bias, running_mean, running_var), options).astype(x.dtype)

    def train_gradients(self, x, weight, bias, dy, **options):
        results = self._call("train_gradients", (x, weight, bias, dy), options)
        return tuple(r.astype(a.dtype) for r, a in zip(results, (x, weight, bias), strict=True))

    def evaluate_gradients(self, x, weight, bias, running_mean, running_var, dy, **options):
        results = self._call("evaluate_gradients", (x, weight, bias, running_mean, running_var, dy), options)
        return tuple(r.astype(a.dtype) for r, a in zip(results, (x, weight, bias), strict=True))


@fault("precision.within-bound", NARROW)
@fault("precision.cancellation", NARROW)
@fault("precision.extent", NARROW)
class Float32Inside(_Inner):
    """Offers float64 and computes in float32."""


class _OwnStatistics(NumPy):
    """Training from statistics that a subclass computes, (C,) each."""

    def statistics(self, x):
        raise NotImplementedError

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        with np.errstate(all="ignore"):
            size = x.size // x.shape[1]
            mean, var = self.statistics(x)
            y = super().evaluate(x.astype(np.promote_types(x.dtype, weight.dtype)), weight, bias, mean, var, eps=eps)
            return (
                y.astype(x.dtype),
                ((1 - momentum) * running_mean + momentum * mean).astype(running_mean.dtype),
                ((1 - momentum) * running_var + momentum * var * size / (size - 1)).astype(running_var.dtype),
            )


def _axes(x):
    return (0, *range(2, x.ndim))


@fault("precision.cancellation", "one pass")
class OnePass(_OwnStatistics):
    """The variance is E[x^2] - E[x]^2, cut off at 0."""

    def statistics(self, x):
        mean = x.mean(_axes(x))
        return mean, np.maximum(np.square(x).mean(_axes(x)) - mean * mean, 0)


@fault("precision.cancellation", "NaN from a negative variance")
class OnePassUnclipped(_OwnStatistics):
    """The variance is E[x^2] - E[x]^2, negative where rounding makes it so, and a root of that is NaN."""

    def statistics(self, x):
        mean = x.mean(_axes(x))
        var = np.square(x).mean(_axes(x)) - mean * mean
        return mean, np.where(var < 0, np.nan, var)


@fault("precision.half-statistics", "half steps")
class KeepsStatisticsInHalf(_OwnStatistics):
    """Sums in float32, but rounds mean and variance to the half precision of x."""

    def statistics(self, x):
        wide = x.astype(np.float32)
        mean = wide.mean(_axes(x)).astype(x.dtype)
        centered = (x - mean.reshape(1, -1, *[1] * (x.ndim - 2))).astype(np.float32)
        return mean, np.square(centered).mean(_axes(x)).astype(x.dtype)


def _half_sum(x, axes):
    """A sum in x's own half precision, one value after another."""
    rows = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
    total = np.zeros(len(rows), x.dtype)
    for column in rows.T:
        total = (total + column).astype(x.dtype)
    return total


@fault("precision.half-statistics", "narrow")
class SumsInHalf(_OwnStatistics):
    """Adds mean and variance up in half precision."""

    def statistics(self, x):
        size = x.size // x.shape[1]
        mean = (_half_sum(x, _axes(x)) / size).astype(x.dtype)
        centered = (x - mean.reshape(1, -1, *[1] * (x.ndim - 2))).astype(x.dtype)
        return mean, (_half_sum((centered * centered).astype(x.dtype), _axes(x)) / size).astype(x.dtype)


class _HalfGradients(NumPy):
    """The sums of the backward pass rounded to half precision on the way."""

    def total(self, terms, dtype):
        raise NotImplementedError

    def train_gradients(self, x, weight, bias, dy, *, eps):
        shape = (1, -1, *[1] * (x.ndim - 2))
        wide, wide_dy = x.astype(np.float32), dy.astype(np.float32)
        mean, var = wide.mean(_axes(x)), wide.var(_axes(x))
        root = 1 / np.sqrt(var + eps)
        x_hat = (wide - mean.reshape(shape)) * root.reshape(shape)
        size = np.float32(x.size // x.shape[1])
        dbias, dweight = self.total(wide_dy, x.dtype), self.total(wide_dy * x_hat, x.dtype)
        share = (dbias / size).reshape(shape) + x_hat * (dweight / size).reshape(shape)
        return ((weight * root).reshape(shape) * (wide_dy - share)).astype(x.dtype), dweight, dbias


@fault("precision.half-gradients", "half steps")
class RoundsGradientSums(_HalfGradients):
    """Each sum of the backward pass is rounded to half precision."""

    def total(self, terms, dtype):
        return terms.sum(_axes(terms)).astype(dtype).astype(np.float32)


@fault("precision.half-gradients", "narrow")
class AddsGradientsInHalf(_HalfGradients):
    """The backward pass adds up in half precision."""

    def total(self, terms, dtype):
        return _half_sum(terms.astype(dtype), _axes(terms)).astype(np.float32)


@fault("precision.large-finite", "squares overflow early")
class SquaresInHalf(_OwnStatistics):
    """Squares the deviations in float16."""

    def statistics(self, x):
        mean = x.astype(np.float32).mean(_axes(x))
        centered = (x - mean.reshape(1, -1, *[1] * (x.ndim - 2))).astype(x.dtype)
        return mean, (centered * centered).astype(np.float32).mean(_axes(x))


# -- hygiene ----------------------------------------------------------------------------------------------------------


@fault("hygiene.inputs-unwritten", "writes its input")
class WritesItsInput(NumPy):
    """Centers x in place."""

    def train(self, x, *rest, **options):
        results = super().train(x, *rest, **options)
        x -= x.astype(np.float32).mean(_axes(x), keepdims=True).astype(x.dtype)
        return results


@fault("hygiene.inputs-unwritten", "writes its parameters")
class WritesItsParameters(NumPy):
    """Scales weight by the root in place."""

    def evaluate(self, x, weight, bias, running_mean, running_var, *, eps):
        y = super().evaluate(x, weight, bias, running_mean, running_var, eps=eps)
        weight /= np.sqrt(running_var + eps)
        return y


@fault("hygiene.inputs-unwritten", "writes the state it was given")
class WritesTheState(NumPy):
    """Updates the running statistics in the caller's arrays too."""

    def train(self, x, weight, bias, running_mean, running_var, **options):
        y, mean, var = super().train(x, weight, bias, running_mean, running_var, **options)
        running_mean[:] = mean
        return y, mean, var


@fault("hygiene.no-alias", "result shares memory with an input")
class ReturnsItsInput(NumPy):
    """Hands back the caller's running mean as the new one, updated in place."""

    def train(self, x, weight, bias, running_mean, running_var, **options):
        y, mean, var = super().train(x, weight, bias, running_mean, running_var, **options)
        running_mean[:] = mean
        return y, running_mean, var


@fault("hygiene.no-alias", "an earlier result changes")
class ReusesItsBuffer(NumPy):
    """Writes y into the buffer of the last call with that shape."""

    def __init__(self):
        self.buffers = {}

    def evaluate(self, x, *rest, **options):
        buffer = self.buffers.setdefault((x.shape, x.dtype), np.empty(x.shape, x.dtype))
        buffer[...] = super().evaluate(x, *rest, **options)
        return buffer


@fault("hygiene.dtype-shape", "y of another dtype")
class PromotesHalf(NumPy):
    """Returns y as wide as it was computed."""

    def evaluate(self, x, *rest, **options):
        return super().evaluate(x, *rest, **options).astype(np.float64)


@fault("hygiene.dtype-shape", "state of another dtype")
class KeepsStateInFloat64(NumPy):
    """Returns the running statistics in float64."""

    def train(self, *arrays, **options):
        y, mean, var = super().train(*arrays, **options)
        return y, mean.astype(np.float64), var.astype(np.float64)


@fault("hygiene.dtype-shape", "gradient of another dtype")
class GradientsInFloat64(NumPy):
    """Returns dweight in float64."""

    def train_gradients(self, *arrays, **options):
        dx, dweight, dbias = super().train_gradients(*arrays, **options)
        return dx, dweight.astype(np.float64), dbias


@fault("hygiene.layouts", "a layout is misread")
class IgnoresStrides(NumPy):
    """Reads x as if its memory were contiguous."""

    def train(self, x, *rest, **options):
        memory = np.lib.stride_tricks.as_strided(x, (x.size,), (x.itemsize,)) if 0 not in x.strides else x.ravel()
        return super().train(memory.reshape(x.shape), *rest, **options)


@fault("hygiene.every-shape", "wrong in some shapes")
class ForgetsChannels(NumPy):
    """Leaves channels beyond the first 64 as they are."""

    def evaluate(self, x, *rest, **options):
        y = super().evaluate(x, *rest, **options)
        y[:, 64:] = x[:, 64:]
        return y


@fault("hygiene.deterministic", "differs from run to run")
class AddsNoise(NumPy):
    """Adds a last bit to every second result."""

    calls = 0

    def evaluate(self, *arrays, **options):
        AddsNoise.calls += 1
        y = super().evaluate(*arrays, **options)
        return y * (1 + np.finfo(y.dtype).eps) if AddsNoise.calls % 2 else y


@fault("hygiene.nan-contained", "spreads to other channels")
class SpreadsNaN(NumPy):
    """One NaN makes everything NaN."""

    def train(self, x, *rest, **options):
        y, mean, var = super().train(x, *rest, **options)
        return (y * np.nan if np.isnan(x).any() else y), mean, var


@fault("hygiene.nan-contained", "is hidden")
class HidesNaN(NumPy):
    """Replaces NaN by 0."""

    def train(self, x, *rest, **options):
        y, mean, var = super().train(np.nan_to_num(x), *rest, **options)
        return y, mean, var


@fault("hygiene.empty-batch", "gradients of nothing are not 0")
class DividesGradientsByNothing(NumPy):
    """dweight of an empty batch is NaN."""

    def train_gradients(self, x, weight, bias, dy, **options):
        dx, dweight, dbias = super().train_gradients(x, weight, bias, dy, **options)
        return dx, dweight if x.size else dweight * np.nan, dbias


@fault("hygiene.empty-batch", "the state moves")
class AveragesNothing(NumPy):
    """Takes an empty batch for one of zeros."""

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        if x.size:
            return super().train(x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
        return x.copy(), (1 - momentum) * running_mean, (1 - momentum) * running_var


class _Around(NumPy):
    """Does something to its surroundings before it trains."""

    def disturb(self):
        raise NotImplementedError

    def train(self, *arrays, **options):
        results = super().train(*arrays, **options)
        self.disturb()
        return results


@fault("hygiene.global-state", "changes NumPy's error state")
class RaisesOnOverflow(_Around):
    """Wants every overflow to raise."""

    def disturb(self):
        np.seterr(over="raise")


@fault("hygiene.global-state", "changes the warning filters")
class FiltersWarnings(_Around):
    """Wants every warning as an error."""

    def disturb(self):
        warnings.simplefilter("error")


@fault("hygiene.global-state", "changes the random state")
class SeedsTheGenerator(_Around):
    """Makes itself reproducible with the generator that everyone uses."""

    def disturb(self):
        random.seed(0)


@fault("hygiene.global-state", "changes the environment")
class SetsAVariable(_Around):
    """Asks for one thread through the environment."""

    def disturb(self):
        os.environ["OMP_NUM_THREADS"] = "1" if os.environ.get("OMP_NUM_THREADS") != "1" else "2"


@fault("hygiene.global-state", "changes the working directory")
class ChangesFolder(_Around):
    """Goes to another folder."""

    def disturb(self):
        os.chdir(os.path.dirname(os.getcwd()) or os.sep)


@fault("hygiene.global-state", "replaces functions of NumPy")
class PatchesNumPy(_Around):
    """Puts its own square root in NumPy's place."""

    def disturb(self):
        np.sqrt = partial(np.power, 0.5)


# -- section 4 ---------------------------------------------------------------------------------------------------------


@fault("relatives.half-statistics", "half steps")
class LayerNormKeepsStatisticsInHalf(NumPy):
    """Sums in float32, but rounds mean and variance to the half precision of x."""

    def layer_norm(self, x, weight, bias, *, eps):
        rows = x.reshape(-1, weight.size)
        mean = rows.mean(1, keepdims=True, dtype=np.float32).astype(x.dtype)
        var = np.square(rows - mean).mean(1, keepdims=True, dtype=np.float32).astype(x.dtype)
        y = (rows - mean).astype(np.float32) / np.sqrt(var.astype(np.float32) + eps)
        return (y * weight.ravel() + bias.ravel()).reshape(x.shape).astype(x.dtype)


@fault("relatives.half-statistics", "narrow")
class LayerNormSumsInHalf(NumPy):
    """Adds mean and variance up in half precision."""

    def layer_norm(self, x, weight, bias, *, eps):
        rows = x.reshape(-1, weight.size).T  # a row is a channel now
        mean = (_half_sum(rows, None) / weight.size).astype(x.dtype)
        centered = (rows - mean).astype(x.dtype)
        var = (_half_sum((centered * centered).astype(x.dtype), None) / weight.size).astype(x.dtype)
        y = (centered / np.sqrt(var.astype(np.float32) + eps)).T * weight.ravel() + bias.ravel()
        return y.reshape(x.shape).astype(x.dtype)


@fault("relatives.identities", "one group is not layer norm")
class OneGroupIsNone(NumPy):
    """Takes a single group for no grouping at all: every channel by itself."""

    def group_norm(self, x, weight, bias, *, num_groups, eps):
        return super().group_norm(x, weight, bias, num_groups=x.shape[1] if num_groups == 1 else num_groups, eps=eps)


@fault("relatives.identities", "a group a channel is not instance norm")
class PairsAtLeast(NumPy):
    """Makes groups of two channels at least, where there is an even number of them."""

    def group_norm(self, x, weight, bias, *, num_groups, eps):
        alone = num_groups == x.shape[1] and not num_groups % 2
        return super().group_norm(x, weight, bias, num_groups=num_groups // 2 if alone else num_groups, eps=eps)


@fault("relatives.identities", "a sample alone is not instance norm")
class EvaluatesOneSample(NumPy):
    """Takes a batch of one for an evaluation."""

    def train(self, x, weight, bias, running_mean, running_var, *, momentum, eps):
        y, *state = super().train(x, weight, bias, running_mean, running_var, momentum=momentum, eps=eps)
        return self.evaluate(x, weight, bias, running_mean, running_var, eps=eps) if len(x) == 1 else y, *state


# -- in a network -----------------------------------------------------------------------------------------------------


@fault("why.depth", "the spread drifts")
class SpreadGrows(RulesBackend):
    """Each layer gives 1 % too much."""

    layer = None

    def train(self, x, *rest, **options):
        y, *state = super().train(x, *rest, **options)
        return (1.01 * y).astype(x.dtype), *state


@fault("why.depth", "layers share their state")
class SharesState(NumPy):
    """The running statistics are kept once for all layers of a width."""

    def __init__(self):
        self.shared = {}

    def layer(self, num_features, *, ndim, dtype, **options):
        made = Layer(num_features, np.promote_types(np.float32, dtype), **options)
        return _Sharing(made, self.shared.setdefault(num_features, made))


class _Sharing:
    """A layer that keeps its running statistics in another one."""

    def __init__(self, own, kept):
        self.own, self.kept = own, kept

    def train(self, x):
        state = ("running_mean", "running_var")
        for name in state:
            setattr(self.own, name, getattr(self.kept, name))
        y = self.own.train(x)
        for name in state:
            setattr(self.kept, name, getattr(self.own, name))
        return y

    def evaluate(self, x):
        return self.kept.evaluate(x)

    def state(self):
        return self.kept.state()


# -- section 5 ---------------------------------------------------------------------------------------------------------


class _InLayer(NumPy):
    """The operation as it should be, with another layer around it."""

    Held: type[Layer] = Layer

    def layer(self, num_features, *, ndim, dtype, **options):
        return self.Held(num_features, np.dtype("float64" if dtype == "float64" else "float32"), **options)


@fault("usage.mode-switch", "evaluation gives training's result")
class NeverSwitches(_InLayer):
    """Evaluation normalizes with the batch's statistics, and does not track them."""

    class Held(Layer):
        def evaluate(self, x):
            state = self.running_mean, self.running_var
            return NumPy().train(x, self.weight, self.bias, *state, momentum=0.0, eps=self.eps)[0]


@fault("usage.mode-switch", "stays in evaluation")
class SwitchesOnce(_InLayer):
    """Once evaluated, the layer evaluates ever after."""

    class Held(Layer):
        evaluated = False

        def train(self, x):
            return self.evaluate(x) if self.evaluated else super().train(x)

        def evaluate(self, x):
            self.evaluated = True
            return super().evaluate(x)


@fault("usage.mode-switch", "evaluation changes a parameter")
class FoldsForGood(_InLayer):
    """Evaluation folds the statistics into weight and bias, and leaves them so."""

    class Held(Layer):
        def evaluate(self, x):
            y = super().evaluate(x)
            self.weight = self.weight / np.sqrt(self.running_var + self.weight.dtype.type(self.eps))
            self.bias = self.bias - self.running_mean * self.weight
            return y


@fault("usage.mode-switch", "training changes a parameter")
class DecaysItsWeight(_InLayer):
    """Every training step takes a little off the weight."""

    class Held(Layer):
        def train(self, x):
            y = super().train(x)
            self.weight = self.weight * self.weight.dtype.type(0.999)
            return y


@fault("usage.mode-switch", "evaluation changes the state")
class TracksInEvaluation(_InLayer):
    """Evaluation tracks its batch as well."""

    class Held(Layer):
        def evaluate(self, x):
            y = super().evaluate(x)
            self.train(x)
            return y


@fault("usage.mode-switch", "evaluation shows in later training")
class LowersItsMomentum(_InLayer):
    """Every evaluation halves the momentum of the steps behind it."""

    class Held(Layer):
        def evaluate(self, x):
            self.momentum = self.momentum and self.momentum / 2
            return super().evaluate(x)


@fault("usage.one-per-channel", "one for all channels")
class OneVariance(_InLayer):
    """A new layer has a single running variance, which the first step spreads over the channels."""

    class Held(Layer):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.running_var = self.running_var[:1]


@fault("usage.one-per-channel", "one a position")
class TracksPositions(_InLayer):
    """Tracks a mean for every position of a map."""

    class Held(Layer):
        def train(self, x):
            y = super().train(x)
            self.running_mean = x.astype(self.weight.dtype).mean(0).ravel()
            return y


@fault("usage.one-per-channel", "with axes beside the channels")
class KeepsItsAxes(_InLayer):
    """Weight is held as it is multiplied, with an axis for every axis of x."""

    def layer(self, num_features, *, ndim, **options):
        made = super().layer(num_features, ndim=ndim, **options)
        made.weight = made.weight.reshape(1, -1, *[1] * (ndim - 2))
        return made


# -- sections 1 and 6 --------------------------------------------------------------------------------------------------


@fault("why.trains-faster", "the plain network is as good")
class NeverNormalizes(Network):
    """Leaves batch norm out of every network."""

    def asked_for(self, normalized):
        return False


@fault("why.matches-dataset", "tracked statistics are not the data set's")
class NeverTracks(Network):
    """The state of its layers stays as it started."""

    def tracked(self, before, after, h):
        return before


@fault("why.matches-dataset", "evaluation is worse than training mode")
class EvaluatesWithoutStatistics(Network):
    """Evaluation goes through layers that have never been trained."""

    def used(self, layer):
        return np.zeros_like(layer["shift"]), np.ones_like(layer["shift"])
