"""What a library must not do to the arrays it is given, and what it must not leave behind."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from normspec.conformance import pools
from normspec.conformance.adapters import Backend, NotOffered, call
from normspec.conformance.arithmetic import GRADES, numpy_dtype, parameter_dtype
from normspec.conformance.cases import Case
from normspec.conformance.checking import Check, on
from normspec.conformance.experiments import (
    EVALUATE,
    EVALUATE_GRADIENTS,
    STATE,
    TRAIN,
    TRAIN_GRADIENTS,
    given,
    handed_over,
    run_evaluate,
    run_gradients,
    run_train,
)
from normspec.conformance.judging import predicted
from normspec.conformance.surroundings import observed

AnyArray = NDArray[Any]
NAMES = ("x", "weight", "bias", "running_mean", "running_var", "dy")
RESULTS = {
    "train": ("y", *STATE),
    "evaluate": ("y",),
    "train_gradients": ("dx", "dweight", "dbias"),
    "evaluate_gradients": ("dx", "dweight", "dbias"),
}
ARGUMENTS = {
    "train": NAMES[:5],
    "evaluate": NAMES[:5],
    "train_gradients": ("x", "weight", "bias", "dy"),
    "evaluate_gradients": NAMES,
}


def calls(backend: Backend, case: Case) -> Iterator[tuple[str, Mapping[str, AnyArray], Mapping[str, AnyArray]]]:
    """Every function that the adapter has, called once: its name, the arrays it was given, the arrays it returned."""
    offered = False
    for method, names in ARGUMENTS.items():
        function = getattr(backend.adapter, method, None)
        if not callable(function):
            continue
        arrays = dict(zip(NAMES, handed_over(case, given(case)), strict=True))
        options = {"momentum": case.momentum, "eps": case.eps} if method == "train" else {"eps": case.eps}
        channels = (case.shape[1],)
        shapes = [case.shape if name in ("y", "dx") else channels for name in RESULTS[method]]
        try:
            results = call(function, RESULTS[method], shapes, *(arrays[n] for n in names), **options)
        except NotOffered:
            continue
        offered = True
        yield method, {n: arrays[n] for n in names}, dict(zip(RESULTS[method], results, strict=True))
    if not offered:
        raise NotOffered("none of its functions is offered")


def bits(array: AnyArray) -> bytes:
    """The values of an array, to the last bit, whatever its layout."""
    return np.ascontiguousarray(array).tobytes()


@pytest.mark.claim("hygiene.inputs-unwritten")
def test_inputs_unwritten(check: Check) -> None:
    """Section 3 (code): no array handed over is written to."""

    def refutation(backend: Backend, case: Case) -> str:
        before = {name: bits(a) for name, a in zip(NAMES, handed_over(case, given(case)), strict=True)}
        for method, arrays, _ in calls(backend, case):
            for name, array in arrays.items():
                if bits(array) != before[name]:
                    mistake = {"x": "writes its input", "dy": "writes its input"}.get(name, "writes its parameters")
                    mistake = "writes the state it was given" if name in STATE else mistake
                    return f"{mistake}: {name} holds other values after {method}"
        return ""

    check.holds(pools.few, refutation)


@pytest.mark.claim("hygiene.no-alias")
def test_no_alias(check: Check) -> None:
    """Good practice: results share no memory with what was given, and later calls leave earlier results alone."""

    def refutation(backend: Backend, case: Case) -> str:
        earlier: list[tuple[str, str, AnyArray, bytes]] = []
        for method, arrays, results in calls(backend, case):
            for name, result in results.items():
                for other, array in arrays.items():
                    if np.may_share_memory(result, array):
                        return f"result shares memory with an input: {name} of {method} with {other}"
                earlier.append((method, name, result, bits(result)))
        for _ in calls(backend, replace(case, seed=case.seed + 1)):
            pass
        for method, name, result, was in earlier:
            if bits(result) != was:
                return f"an earlier result changes: {name} of {method}, when other input is computed"
        return ""

    check.holds(pools.few, refutation)


@pytest.mark.claim("hygiene.dtype-shape")
def test_dtype_shape(check: Check) -> None:
    """Good practice: y and dx have x's dtype; state and parameters' gradients keep the dtype they came with."""
    own, small = numpy_dtype(check.dtype), numpy_dtype(parameter_dtype(check.dtype))

    def refutation(backend: Backend, case: Case) -> str:
        for method, _, results in calls(backend, case):
            for name, result in results.items():
                expected = own if name in ("y", "dx") else small
                if result.dtype != expected:
                    kind = "y" if name == "y" else "state" if name in STATE else "gradient"
                    return f"{kind} of another dtype: {name} of {method} is {result.dtype}, expected {expected}"
        return ""

    check.holds(pools.few, refutation)


@pytest.mark.claim("hygiene.layouts")
def test_layouts(check: Check) -> None:
    """Good practice: how an array lies in memory changes nothing beyond rounding."""

    def forward(backend: Backend, case: Case) -> dict[str, AnyArray]:
        return {
            **run_train(backend, case, given(case)),
            "evaluation": run_evaluate(backend, case, given(case))["y"],
        }

    def backward(backend: Backend, case: Case) -> dict[str, AnyArray]:
        found: dict[str, AnyArray] = {}
        for method in ("train_gradients", "evaluate_gradients"):
            with suppress(NotOffered):
                results = run_gradients(backend, case, given(case), method)
                found.update({f"{name} of {method}": value for name, value in results.items()})
        return found

    def refutation(backend: Backend, case: Case) -> str:
        for layout in ("channels last", "transposed", "strided", "zero stride"):
            data = "overlapping" if layout == "zero stride" else case.data
            plain = replace(case, data=data, layout="contiguous", dy_layout="contiguous")
            other = replace(plain, layout=layout)
            apart = _distance(check, plain, forward(backend, plain), forward(backend, other))
            if apart:
                return f"a layout is misread: {layout}: {apart}"
            right = backward(backend, plain)
            # x and dy in memory alike, and each otherwise than the other
            for misplaced in (replace(other, dy_layout=""), other, replace(plain, dy_layout=layout)):
                if misplaced.dy_layout == "zero stride":
                    continue  # dy is not a repetition
                if apart := _distance(check, plain, right, backward(backend, misplaced)):
                    told = f"x {misplaced.layout}, dy {misplaced.dy_layout or misplaced.layout}"
                    return f"a layout is misread: {told}: {apart}"
        return ""

    check.holds(pools.few, refutation)


@pytest.mark.claim("hygiene.every-shape")
def test_every_shape(check: Check) -> None:
    """Section 2: the formulas hold at every size, at the edges of tiles and in the layers of real networks."""
    every = [a.grade for a in GRADES[check.dtype] if a.grade != "narrow sums"]
    check.grade(
        on(pools.shapes, TRAIN, "y", *STATE),
        on(pools.shapes, EVALUATE, "y"),
        on(pools.shapes, TRAIN_GRADIENTS, "dx", "dweight", "dbias"),
        on(pools.shapes, EVALUATE_GRADIENTS, "dx", "dweight", "dbias"),
        accepted=every,
    )


@pytest.mark.claim("hygiene.deterministic")
def test_deterministic(check: Check) -> None:
    """Good practice: the same input gives the same output, bit for bit."""

    def refutation(backend: Backend, case: Case) -> str:
        first = {(method, n): bits(r) for method, _, results in calls(backend, case) for n, r in results.items()}
        for method, _, results in calls(backend, case):
            for name, result in results.items():
                if bits(result) != first[method, name]:
                    return f"differs from run to run: {name} of {method}"
        return ""

    check.holds(pools.few, refutation)


@pytest.mark.claim("hygiene.nan-contained")
def test_nan_contained(check: Check) -> None:
    """Section 2: NaN or inf stays in its channel, and shows there."""

    def refutation(backend: Backend, case: Case) -> str:
        clean = run_train(backend, case, given(case))
        for poison in (np.nan, np.inf):
            x = given(case).x.copy()
            x[0, 0] = poison
            got = run_train(backend, case, given(case)._replace(x=x))
            shown = got["y"][:, 0].astype(np.float64)
            if np.isfinite(shown).any() or np.isfinite(got["running_mean"][0]):
                return f"is hidden: the channel with {poison} in it has finite results"
            others = {"y": got["y"][:, 1:], **{n: got[n][1:] for n in STATE}}
            expected = {"y": clean["y"][:, 1:], **{n: clean[n][1:] for n in STATE}}
            for name, value in others.items():
                if not np.isfinite(value.astype(np.float64)).all():
                    return f"spreads to other channels: {poison} in channel 0, {name} elsewhere is not finite"
                if bits(value) != bits(expected[name]):
                    apart = _distance(check, case, clean, {**clean, name: _restored(clean[name], value, name)})
                    if apart:
                        return f"spreads to other channels: {poison} in channel 0 changes {name} elsewhere: {apart}"
        # Evaluation knows no batch: only the sample itself may show it.
        x = given(case).x.copy()
        x[0, 0] = np.nan
        y = run_evaluate(backend, case, given(case)._replace(x=x))["y"].astype(np.float64)
        if not np.isfinite(y[1:]).all() or not np.isfinite(y[:, 1:]).all():
            return "spreads to other channels: evaluation of one sample's NaN is not finite elsewhere"
        if not np.isnan(y[0, 0]).all():
            return "is hidden: evaluation of NaN is a number"
        with suppress(NotOffered):
            return in_gradients(backend, case)
        return ""

    def in_gradients(backend: Backend, case: Case) -> str:
        """The same of gradients: what reads a NaN shows it, in its own channel."""
        for poisoned, method, shown in (
            ("x", "train_gradients", ("dx", "dweight")),
            ("dy", "train_gradients", ("dx", "dweight", "dbias")),
            ("dy", "evaluate_gradients", ("dweight", "dbias")),
        ):
            values = given(case)
            array = getattr(values, poisoned).copy()
            array[0, 0] = np.nan
            got = run_gradients(backend, case, values._replace(**{poisoned: array}), method)
            for name in ("dx", "dweight", "dbias"):
                by_channel = np.moveaxis(got[name].astype(np.float64), 1, 0) if name == "dx" else got[name]
                if not np.isfinite(by_channel[1:].astype(np.float64)).all():
                    return f"spreads to other channels: NaN in {poisoned}, {name} of {method} is not finite elsewhere"
                if name in shown and not np.isnan(by_channel[0].astype(np.float64)).all():
                    return f"is hidden: NaN in {poisoned}, {name} of {method} is a number"
        return ""

    check.holds(pools.few, refutation)


@pytest.mark.claim("hygiene.empty-batch")
def test_empty_batch(check: Check) -> None:
    """Section 2: an empty batch is refused, or gives an empty result and leaves the state as it was."""

    def refutation(backend: Backend, case: Case) -> str:
        values = given(case)
        result = run_train(backend, case, values)
        for name in STATE:
            if (result[name].astype(np.float64) != getattr(values, name)).any():
                return f"the state moves: {name} is {result[name].tolist()} after an empty batch"
        return ""

    check.holds(pools.empty, refutation, refusable=True)


@pytest.mark.claim("hygiene.global-state")
def test_global_state(check: Check) -> None:
    """Good practice: a call changes nothing outside of it; the first one may, where a framework is imported late."""

    def refutation(backend: Backend, case: Case) -> str:
        with observed() as changes:
            for _ in calls(backend, case):
                pass
            changes.clear()
            for method, _, _ in calls(backend, case):
                if changes:
                    return f"{changes[0]}: {method}, called a second time"
        return ""

    check.holds(pools.few, refutation)


def _distance(check: Check, case: Case, one: Mapping[str, AnyArray], other: Mapping[str, AnyArray]) -> str:
    """Where two results of the same case are further apart than rounding may bring them; "" if nowhere."""
    for name in one:
        bound = 2 * _bound(check, case, name)  # both sides round
        with np.errstate(invalid="ignore"):
            apart = abs(one[name].astype(np.float64) - other[name].astype(np.float64))
        outside = (apart > bound) | (np.isnan(apart) & np.isfinite(bound))
        if outside.any():
            index = tuple(int(i) for i in np.argwhere(outside)[0])
            return f"{name}{list(index)} is {float(other[name][index]):g}, not {float(one[name][index]):g}"
    return ""


def _bound(check: Check, case: Case, name: str) -> NDArray[np.float64]:
    """For one side, under the rules that the backend follows, in the coarsest arithmetic of the dtype."""
    coarsest = GRADES[case.dtype][-1]
    quantity, _, method = name.partition(" of ")
    experiment = {
        "train_gradients": TRAIN_GRADIENTS,
        "evaluate_gradients": EVALUATE_GRADIENTS,
        "": EVALUATE if quantity == "evaluation" else TRAIN,
    }[method]
    quantity = "y" if quantity == "evaluation" else quantity
    return predicted(case, experiment, check.rules(experiment, quantity), coarsest)[quantity].bound


def _restored(clean: AnyArray, rest: AnyArray, name: str) -> AnyArray:
    """`clean` with everything but channel 0 replaced by `rest`."""
    whole = clean.copy()
    if name == "y":
        whole[:, 1:] = rest
    else:
        whole[1:] = rest
    return whole
