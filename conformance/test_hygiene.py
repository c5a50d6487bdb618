"""What a library must not do to the arrays it is given, and what it must not leave behind."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from normspec.conformance.cases import pools
from normspec.conformance.cases.arithmetic import GRADES, numpy_dtype, own_grades, parameter_dtype
from normspec.conformance.cases.cases import Case, Inputs
from normspec.conformance.cases.given import given
from normspec.conformance.cases.operations import BATCH_NORM, LIKE, METHODS, STATE, Method, dtype_of
from normspec.conformance.predictions.mismatch import parted
from normspec.conformance.trials.adapters import Backend, Crashed, NotOffered, refusable
from normspec.conformance.trials.experiments import (
    EVALUATE,
    EVALUATE_GRADIENTS,
    TRAIN,
    TRAIN_GRADIENTS,
    called_with,
    handed_over,
    new_layer,
    run,
    run_evaluate,
    run_layer,
    run_train,
    state_of,
)
from normspec.conformance.trials.surroundings import observed
from normspec.conformance.verdicts.checking import Check, on
from normspec.conformance.verdicts.observed import predicted

AnyArray = NDArray[Any]


def calls(backend: Backend, case: Case) -> Iterator[tuple[str, Mapping[str, AnyArray], Mapping[str, AnyArray]]]:
    """Every function that the adapter has, called once: its name, the arrays it was given, the arrays it returned."""
    offered = False
    for method in BATCH_NORM.methods:
        arrays = handed_over(method, case, given(case))
        try:
            results = called_with(method, backend, case, arrays)
        except NotOffered:
            continue
        offered = True
        yield method.name, arrays, results
    if not offered:
        raise NotOffered("none of its functions is offered")


def bits(array: AnyArray) -> bytes:
    """The values of an array, to the last bit, whatever its layout."""
    return np.ascontiguousarray(array).tobytes()


@pytest.mark.claim("hygiene.inputs-unwritten")
def test_inputs_unwritten(check: Check) -> None:
    """Section 3 (code): no array handed over is written to."""

    def refutation(backend: Backend, case: Case) -> str:
        takes_all = METHODS["evaluate_gradients"]
        before = {name: bits(a) for name, a in handed_over(takes_all, case, given(case)).items()}
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

    def of_operation(backend: Backend, case: Case) -> str:
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

    def of_identity(backend: Backend, case: Case) -> str:
        """Where evaluation returns its input, it must return a copy."""
        arrays = handed_over(METHODS["evaluate"], case, given(case))
        for name, value in {"weight": 1, "bias": 0, "running_mean": 0, "running_var": 1}.items():
            arrays[name][:] = value
        y = called_with(METHODS["evaluate"], backend, replace(case, eps=0.0), arrays)["y"]
        shared = np.may_share_memory(arrays["x"], y)
        return "result shares memory with an input: y of evaluate with x" if shared else ""

    def of_layer(backend: Backend, case: Case) -> str:
        layer = new_layer(backend, case)
        earlier = [run_layer(function, case, given(case).x) for function in (layer.train, layer.evaluate)]
        before = [bits(y) for y in earlier]
        for function in (layer.train, layer.evaluate):
            run_layer(function, case, given(replace(case, seed=case.seed + 1)).x)
        changed = [bits(y) for y in earlier] != before
        return "an earlier result changes: y of the layer, when other input is computed" if changed else ""

    def of_equal_inputs(backend: Backend, case: Case) -> str:
        """One array may be given twice: nothing is written to it."""
        arrays = handed_over(METHODS["train"], case, given(case))
        weight = arrays["weight"]
        weight[:] = abs(weight) + 1
        apart, shared = (
            called_with(METHODS["train"], backend, case, {**arrays, "running_var": var}).values()
            for var in (weight.copy(), weight)
        )
        same = [bits(a) for a in apart] == [bits(a) for a in shared]
        return "" if same else "result shares memory with an input: one array as weight and running_var is changed"

    def refutation(backend: Backend, case: Case) -> str:
        for mistake in (
            of_operation(backend, case),
            of_operation(backend, replace(case, momentum=0)),  # nothing moves, so that the old state may come back
            of_equal_inputs(backend, case),
        ):
            if mistake:
                return mistake
        with refusable():  # eps = 0 may be
            if mistake := of_identity(backend, case):
                return mistake
        with suppress(NotOffered, Crashed):  # a layer that crashes is another claim's business
            return of_layer(backend, case)
        return ""

    check.holds(pools.few, refutation)


@pytest.mark.claim("hygiene.dtype-shape")
def test_dtype_shape(check: Check) -> None:
    """Good practice: y and dx have x's dtype; state and parameters' gradients keep the dtype they came with."""
    small = numpy_dtype(parameter_dtype(check.dtype))

    def refutation(backend: Backend, case: Case) -> str:
        for method, _, results in calls(backend, case):
            for name, result in results.items():
                expected = numpy_dtype(dtype_of(LIKE[name], check.dtype))
                if result.dtype != expected:
                    kind = "y" if name == "y" else "state" if name in STATE else "gradient"
                    return f"{kind} of another dtype: {name} of {method} is {result.dtype}, expected {expected}"
        with suppress(NotOffered, Crashed):  # a layer that crashes is another claim's business
            layer = new_layer(backend, case)
            run_layer(layer.train, case, given(case).x)
            for name, array in state_of(layer, case.shape[1]).items():
                if array.dtype != small:
                    return f"state of another dtype: {name} of the layer is {array.dtype}, expected {small}"
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
                results = run(METHODS[method], backend, case, given(case))
                found.update({f"{name} of {method}": value for name, value in results.items()})
        return found

    def refutation(backend: Backend, case: Case) -> str:
        for layout in ("channels last", "offset", "transposed", "strided", "zero stride", "reversed"):
            try:
                mistake = misread(backend, case, layout)
            except Crashed as error:
                if layout != "reversed" or not error.refusal:  # some take no negative strides, and say so
                    raise
                continue
            if mistake:
                return f"a layout is misread: {mistake}"
        return ""

    def misread(backend: Backend, case: Case, layout: str) -> str:
        data = "overlapping" if layout == "zero stride" else case.data
        plain = replace(case, data=data, layout="contiguous", dy_layout="contiguous")
        other = replace(plain, layout=layout)
        if apart := _distance(check, plain, forward(backend, plain), forward(backend, other)):
            return f"{layout}: {apart}"
        right = backward(backend, plain)
        # x and dy in memory alike, and each otherwise than the other; dy is no repetition
        both = [replace(other, dy_layout=""), replace(plain, dy_layout=layout)] if layout != "zero stride" else []
        for misplaced in (other, *both):
            if apart := _distance(check, plain, right, backward(backend, misplaced)):
                return f"x {misplaced.layout}, dy {misplaced.dy_layout or misplaced.layout}: {apart}"
        return ""

    check.holds(pools.few, refutation)


@pytest.mark.claim("hygiene.every-shape")
def test_every_shape(check: Check) -> None:
    """Section 2: the formulas hold at every size, at the edges of tiles and in the layers of real networks."""
    every = [arithmetic.grade for arithmetic in own_grades(check.dtype)]
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
        for other in ((), (replace(case, seed=case.seed + 1),)):  # at once, and with other values in between
            for between in other:
                for _ in calls(backend, between):
                    pass
            for method, _, results in calls(backend, case):
                for name, result in results.items():
                    if bits(result) != first[method, name]:
                        return f"differs from run to run: {name} of {method}"
        return ""

    check.holds(pools.few, refutation)


SHOWN = {
    ("train", "x"): ("y", *STATE),
    ("train", "weight"): ("y",),
    ("train", "bias"): ("y",),
    ("train", "running_mean"): ("running_mean",),
    ("train", "running_var"): ("running_var",),
    ("evaluate", "x"): ("y",),
    ("evaluate", "weight"): ("y",),
    ("evaluate", "bias"): ("y",),
    ("evaluate", "running_mean"): ("y",),
    ("evaluate", "running_var"): ("y",),
    ("train_gradients", "x"): ("dx", "dweight"),
    ("train_gradients", "dy"): ("dx", "dweight", "dbias"),
    ("train_gradients", "weight"): ("dx",),
    ("evaluate_gradients", "x"): ("dweight",),
    ("evaluate_gradients", "dy"): ("dx", "dweight", "dbias"),
    ("evaluate_gradients", "weight"): ("dx",),
    ("evaluate_gradients", "running_mean"): ("dweight",),
    ("evaluate_gradients", "running_var"): ("dx", "dweight"),
}
"""The results of each function that follow from an argument, and so show a NaN in it, in its channel alone."""


@pytest.mark.claim("hygiene.nan-contained")
def test_nan_contained(check: Check) -> None:
    """Section 2: NaN or inf stays in its channel, and shows there."""

    def results(backend: Backend, case: Case, method: Method, values: Inputs) -> Mapping[str, AnyArray]:
        return called_with(method, backend, case, handed_over(method, case, values))

    def refutation(backend: Backend, case: Case) -> str:
        clean: dict[str, Mapping[str, AnyArray]] = {}
        for (method, argument), shown in SHOWN.items():
            for poison in (np.nan, np.inf, -np.inf) if argument in ("x", "dy") else (np.nan,):
                array = getattr(given(case), argument).copy()
                array.reshape(-1)[0] = poison  # one value, of the first sample and channel
                with suppress(NotOffered):
                    if method not in clean:
                        clean[method] = results(backend, case, METHODS[method], given(case))
                    got = results(backend, case, METHODS[method], given(case)._replace(**{argument: array}))
                    told = f"{poison} in {argument}, {{}} of {method}"
                    if mistake := seen(
                        clean[method], got, shown, told, alone=method.startswith("evaluate") and argument in ("x", "dy")
                    ):
                        return mistake
                    if (method, argument) == ("train", "x") and (apart := moved(case, clean[method], got)):
                        return f"spreads to other channels: {poison} in channel 0 changes {apart}"
        return ""

    def seen(
        clean: Mapping[str, AnyArray], got: Mapping[str, AnyArray], shown: Sequence[str], told: str, *, alone: bool
    ) -> str:
        """What is wrong with where it shows; in evaluation a value of x or dy stands `alone`."""
        for name, result in got.items():
            finite = np.isfinite(result.astype(np.float64))
            # What overflows without it, as half precision may, is not its doing.
            spared = finite | ~np.isfinite(clean[name].astype(np.float64))
            of_x = name in ("y", "dx")
            if not (spared[:, 1:] if of_x else spared[1:]).all():
                return f"spreads to other channels: {told.format(name)} elsewhere is not finite"
            own_value = alone and of_x
            first = (finite[:, 0] if of_x else finite[:1]).reshape(-1)
            if name in shown and (first[0] if own_value else first.any()):
                return f"is hidden: {told.format(name)} is finite"
            if own_value and not spared[:, 0].reshape(-1)[1:].all():
                return f"spreads to other channels: {told.format(name)} is not finite at other places"
        return ""

    def moved(case: Case, clean: Mapping[str, AnyArray], got: Mapping[str, AnyArray]) -> str:
        """Where other channels hold other values than without the poison; "" if nowhere."""
        others = {"y": got["y"][:, 1:], **{n: got[n][1:] for n in STATE}}
        for name, value in others.items():
            if bits(value) != bits(clean["y"][:, 1:] if name == "y" else clean[name][1:]):
                whole = {**clean, name: _restored(clean[name], value, name)}
                if apart := _distance(check, case, clean, whole):
                    return f"{name} elsewhere: {apart}"
        return ""

    check.holds(pools.few, refutation)


@pytest.mark.claim("hygiene.empty-batch")
def test_empty_batch(check: Check) -> None:
    """Section 2: an empty batch is refused, or gives an empty result and leaves the state as it was."""

    def refutation(backend: Backend, case: Case) -> str:
        values = given(case)
        with refusable():  # each may be by itself
            after = run_evaluate(backend, case, values)
            if mistake := moved("an empty evaluation", after, values):
                return mistake
        for method in ("train_gradients", "evaluate_gradients"):
            with refusable():
                got = run(METHODS[method], backend, case, values)
                for name in ("dweight", "dbias"):
                    if got[name].astype(np.float64).any():
                        return f"gradients of nothing are not 0: {name} of {method} is {got[name].tolist()}"
        return moved("an empty batch", run_train(backend, case, values), values)

    def moved(what: str, result: Mapping[str, AnyArray], values: Inputs) -> str:
        for name in STATE:
            if (result[name].astype(np.float64) != getattr(values, name)).any():
                return f"the state moves: {name} is {result[name].tolist()} after {what}"
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
        index = parted(one[name], other[name], 2 * _bound(check, case, name))  # both sides round
        if index is not None:
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
