"""What a training step must return whose batch is split over devices (section 4)."""

import numpy as np

from normspec import reference
from normspec.conformance.cases.arithmetic import Arithmetic
from normspec.conformance.cases.cases import Inputs
from normspec.conformance.cases.operations import GRADIENTS, STATE
from normspec.conformance.predictions import prediction
from normspec.conformance.predictions.bounds import steps
from normspec.conformance.predictions.prediction import Expected
from normspec.reference import Rules


def train_split(
    values: Inputs, rules: Rules, arithmetic: Arithmetic, *, devices: int, eps: float, momentum: float
) -> dict[str, Expected]:
    """What a training step must give: by all rules but the one on the split, what it gives without one."""
    whole = prediction.train(values, rules, arithmetic, eps=eps, momentum=momentum)
    # Devices may share the inverse root, and win the variance back from it: some six steps of var + eps.
    m = values.x.size // values.x.shape[1]
    regained = 6 * steps(arithmetic) * abs(momentum) * (reference.statistics(values.x).var.ravel() + eps) * m / (m - 1)
    whole["running_var"] = Expected(whole["running_var"].value, whole["running_var"].bound + regained)
    if rules.split == "whole batch":
        return whole
    x, weight, bias, mean, var, _ = values
    right = reference.split.train_split(
        x, weight, bias, mean, var, devices=devices, momentum=momentum, eps=eps, rules=rules
    )
    bounds = {name: expected.bound for name, expected in whole.items()}
    if rules.split in ("each by itself", "states averaged"):
        parts = [prediction.train(v, rules, arithmetic, eps=eps, momentum=momentum) for v in _parts(values, devices)]
        bounds = {name: np.max([part[name].bound for part in parts], axis=0) for name in STATE}
        bounds["y"] = np.concatenate([part["y"].bound for part in parts])
    if rules.split == "divisor of one":  # the same sums, times a number between 1 and 2
        bounds["running_var"] = 2 * bounds["running_var"]
    if rules.split == "variances averaged":
        # The sums of the parts are no worse than that of the whole; their smaller variance has a larger root, whose
        # cube is what an error of the variance is multiplied by.
        within = np.mean([reference.statistics(v.x).var for v in _parts(values, devices)], axis=0)
        larger = np.sqrt((reference.statistics(x).var + eps) / (within + eps)) ** 3
        bounds["y"] = larger * bounds["y"]
    return {name: Expected(value, bounds[name]) for name, value in zip(("y", *STATE), right, strict=True)}


def train_split_gradients(
    values: Inputs, rules: Rules, arithmetic: Arithmetic, *, devices: int, eps: float
) -> dict[str, Expected]:
    """The same for the gradients."""
    whole = prediction.train_gradients(values, rules, arithmetic, eps=eps)
    if rules.split == "whole batch":
        return whole
    x, weight, bias, _, _, dy = values
    right = reference.split.train_split_gradients(x, weight, bias, dy, devices=devices, eps=eps, rules=rules)
    bounds = {name: expected.bound for name, expected in whole.items()}
    if rules.split in ("each by itself", "states averaged"):
        parts = [prediction.train_gradients(v, rules, arithmetic, eps=eps) for v in _parts(values, devices)]
        bounds = {name: np.sum([part[name].bound for part in parts], axis=0) for name in ("dweight", "dbias")}
        bounds["dx"] = np.concatenate([part["dx"].bound for part in parts])
    if rules.split == "gradient through one":
        # With dy = 0 on the other devices a mean over the batch is that over the part, divided by their number d: dx is
        # d times what the whole batch then gives, less d - 1 times g * root, which is off by no more.
        masked = [np.where(np.arange(len(x)) * devices // len(x) == part, dy.T, 0.0).T for part in range(devices)]
        of_parts = [prediction.train_gradients(values._replace(dy=g), rules, arithmetic, eps=eps) for g in masked]
        own = [np.split(told["dx"].bound, devices)[part] for part, told in enumerate(of_parts)]
        bounds["dx"] = 2 * devices * np.concatenate(own)
    return {name: Expected(value, bounds[name]) for name, value in zip(GRADIENTS, right, strict=True)}


def _parts(values: Inputs, devices: int) -> list[Inputs]:
    """What each device is given."""
    split = zip(np.split(values.x, devices), np.split(values.dy, devices), strict=True)
    return [values._replace(x=x, dy=dy) for x, dy in split]
