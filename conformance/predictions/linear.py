"""What batch norm behind a linear layer must return: its own results, and its dx handed on through W (section 5)."""

import numpy as np

from normspec.conformance.cases.arithmetic import Arithmetic
from normspec.conformance.cases.cases import Inputs
from normspec.conformance.cases.given import FEATURES, Before
from normspec.conformance.predictions import bounds, prediction
from normspec.conformance.predictions.prediction import Expected
from normspec.reference import Rules
from normspec.reference import linear as reference


def _seen(layer: Before, values: Inputs, rules: Rules) -> Inputs:
    """What batch norm is given: W u without b, where a rival adds b after it."""
    if rules.earlier_bias != "added after":
        return values
    return values._replace(x=reference.linear(layer.u, layer.w, np.zeros_like(layer.b)))


@np.errstate(all="ignore")
def linear_norm(
    layer: Before, values: Inputs, rules: Rules, arithmetic: Arithmetic, *, eps: float
) -> dict[str, Expected]:
    """y."""
    y = reference.linear_norm(*layer, values.weight, values.bias, eps=eps, rules=rules)
    bound = prediction.normalized(_seen(layer, values, rules), rules, arithmetic, eps=eps)["y"].bound
    if rules.earlier_bias == "added after":
        bound = bounds.stored(y, bound + bounds.steps(arithmetic) * abs(y), arithmetic.result)
    return {"y": Expected(y, bound)}


@np.errstate(all="ignore")
def linear_norm_gradients(
    layer: Before, values: Inputs, rules: Rules, arithmetic: Arithmetic, *, eps: float
) -> dict[str, Expected]:
    """du, dw, db, dweight and dbias."""
    results = prediction.train_gradients(_seen(layer, values, rules), rules, arithmetic, eps=eps)
    expected = reference.linear_norm_gradients(*layer, values.weight, values.bias, values.dy, eps=eps, rules=rules)
    dz, of_dz = abs(results["dx"].value), results["dx"].bound
    u, w = abs(layer.u), abs(layer.w)
    carried, size = reference.linear_gradients(u, w, of_dz), reference.linear_gradients(u, w, dz + of_dz)
    places = values.dy.size // values.dy.shape[1]
    terms = (layer.w.size // FEATURES, places, places)
    told = {}
    for name, value, error, magnitude, count in zip(("du", "dw", "db"), expected, carried, size, terms, strict=False):
        reach = error + bounds.growth(count, arithmetic) * magnitude
        if name == "db" and rules.earlier_bias != "cancels":  # a plain sum, of dy or of what it is multiplied by
            reach = reach + bounds.growth(count, arithmetic) * abs(expected[2])
        told[name] = Expected(value, bounds.stored(value, reach, arithmetic.result))
    return {**told, "dweight": results["dweight"], "dbias": results["dbias"]}
