"""The eps and the momentum of a layer that is built without them, as its results show them."""

import numpy as np

from normspec.conformance.cases.arithmetic import coarsest
from normspec.conformance.cases.cases import Case, Inputs
from normspec.conformance.cases.operations import PARAMETERS, STATE
from normspec.conformance.predictions import prediction
from normspec.conformance.predictions.bounds import ROOT_STEPS
from normspec.conformance.predictions.mismatch import ratios
from normspec.conformance.predictions.prediction import Expected
from normspec.conformance.trials.adapters import Backend
from normspec.conformance.trials.experiments import new_layer, run_layer, state_of
from normspec.reference import Rules
from normspec.reference.places import Whole
from normspec.reference.rivals import AFFINE


def shows_eps(rules: Rules) -> bool:
    """Whether eps, as given, shows in y at all."""
    return rules.scaled and rules.eps_rule not in ("absent", "always 1e-5")


def default_eps(backend: Backend, dtype: str, rules: Rules) -> tuple[float, float, bool]:
    """The eps of a layer built without one, by the rule it follows; how far rounding may move it; whether y agrees.

    What cannot be told from 0 is 0.0. The variance is about 1e-5, or far below where eps is its floor, so that eps
    shows in y. Raises NotOffered or Crashed as the layer does.
    """
    scale = 2.0 ** (-14 if rules.eps_rule == "larger of both" else -9)
    case = Case(dtype=dtype, shape=(4, 1), data="exact 3", scale=scale)
    layer = new_layer(backend, case)
    names = (*PARAMETERS, *STATE)
    weight, bias, mean, var = (a.astype(np.float64) for a in state_of(layer, 1, names).values())
    x = scale * np.array([[-3.0], [1.0], [1.0], [1.0]])
    y = run_layer(layer.train, case, x)
    gain, shift = (float(a[0]) for a in AFFINE[rules.affine](weight, bias, Whole((4, 1), (1,))))
    with np.errstate(all="ignore"):
        deviation = abs(float(gain * x[0, 0] / (y[0, 0].astype(np.float64) - shift)))
    spread = 3 * scale**2 * (4 / 3 if rules.ddof else 1)
    added, beside = deviation**2 - spread, deviation - spread**0.5
    arithmetic = coarsest(dtype)
    # y is off by its own rounding and that of the root: so is the deviation, and its square twice that.
    relative = 1.01 * (arithmetic.result.roundoff + (ROOT_STEPS + 8) * arithmetic.steps)
    reach = 2 * relative * deviation**2
    eps, reach = {
        "outside": (beside, relative * deviation),
        "both roots": (beside**2, 2 * abs(beside) * relative * deviation),
        "larger of both": (deviation**2, reach),
        "squared": (max(added, 0.0) ** 0.5, reach / max(added, reach) ** 0.5),
        "doubled": (added / 2, reach / 2),
    }.get(rules.eps_rule, (added, reach))
    if not eps < np.inf:
        return eps, reach, False
    eps = eps if eps > reach else 0.0
    # The number means something only if the whole formula gives y with it.
    values = Inputs(x, weight, bias, mean, var, np.zeros_like(x))
    low, middle, high = (
        prediction.train(values, rules, arithmetic, eps=e, momentum=0.1)["y"]
        for e in (max(eps - reach, 0.0), eps, eps + reach)
    )
    room = middle.bound + np.maximum(abs(low.value - middle.value), abs(high.value - middle.value))
    return eps, reach, not (ratios(y, Expected(middle.value, room)) > 1).any()


def default_momentum(backend: Backend, dtype: str) -> tuple[float, float, float]:
    """The weight of the new value in the first and in the second batch; how far rounding may move the two apart.

    From batches of mean 1 and 5: the state is at most 5, and moves by at least 4 weights in the second. Raises
    NotOffered or Crashed as the layer does.
    """
    case = Case(dtype=dtype, shape=(4, 1), data="exact 3")
    arithmetic, weights = coarsest(dtype), []
    layer = new_layer(backend, case)
    before = float(state_of(layer, 1)["running_mean"][0])
    for mean in (1.0, 5.0):
        run_layer(layer.train, case, mean + np.array([[-3.0], [1.0], [1.0], [1.0]]))
        after = float(state_of(layer, 1)["running_mean"][0])
        weights.append((after - before) / (mean - before) if after != before else 0.0)
        before = after
    first, second = weights
    return first, second, 8 * max(arithmetic.kept.roundoff, arithmetic.steps)
