"""The reference against numbers that nobody here computed with it: ONNX's, PyTorch's, and some worked out by hand."""

import importlib
import pkgutil
from fractions import Fraction
from math import isqrt
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx.backend.test.case import node as onnx_nodes
from onnx.backend.test.case.test_case import TestCase as OnnxCase

from normspec import reference
from normspec.conformance.cases.arithmetic import GRADES
from normspec.conformance.cases.cases import Case, Inputs, inputs
from normspec.conformance.predictions import prediction
from normspec.conformance.predictions.bounds import ROOT_STEPS
from normspec.conformance.predictions.prediction import Prediction
from normspec.reference import ARTICLE, Rules

FLOAT32, FLOAT64 = GRADES["float32"][0], GRADES["float64"][0]  # the finest grades: everything here is stable


def assert_near(results: dict[str, np.ndarray], predicted: Prediction) -> None:
    """Results that were rounded by others, inside the suite's bound for their arithmetic."""
    assert results
    for name, result in results.items():
        value, bound = predicted[name]
        ratio = abs(np.asarray(result, np.float64) - value) / bound
        assert np.isfinite(bound).all()
        assert (ratio <= 1).all(), f"{name}: {ratio.max()} of the bound"


# -- ONNX: the node tests of its operator -----------------------------------------------------------------------------

# In ONNX momentum weighs the old value, the article's weighs the new one; and the variance it tracks has divisor m:
# "ReduceVar refers to the population variance", says the operator's text.
ONNX = Rules(tracked_variance="m")


def onnx_cases() -> list[OnnxCase]:
    """What `collect_testcases` returns for the operator, without running the files of all others first."""
    for module in pkgutil.iter_modules(onnx_nodes.__path__):
        if module.name.startswith("batch"):
            importlib.import_module(f"{onnx_nodes.__name__}.{module.name}")
    return [case for case in onnx_nodes._NodeTestCases if case.model.graph.node[0].op_type == "BatchNormalization"]


def attributes(model: onnx.ModelProto) -> dict[str, float]:
    """The attributes of the only node; those not given are the defaults of the operator's version."""
    schema = onnx.defs.get_schema("BatchNormalization", model.opset_import[0].version)
    node = model.graph.node[0]
    given = [a.default_value for a in schema.attributes.values() if a.default_value.name] + list(node.attribute)
    return {a.name: onnx.helper.get_attribute_value(a) for a in given}


def wide(x: np.ndarray, *parameters: np.ndarray) -> Inputs:
    return Inputs(*(array.astype(np.float64) for array in (x, *parameters, np.zeros_like(x))))


def test_onnx_has_cases_of_both_modes_and_two_eps() -> None:
    found = [attributes(case.model) for case in onnx_cases()]
    kinds = {(bool(a["training_mode"]), round(a["epsilon"], 8)) for a in found}
    assert kinds >= {(mode, eps) for mode in (False, True) for eps in (1e-5, 1e-2)}


@pytest.mark.parametrize("case", onnx_cases(), ids=lambda case: case.name)
def test_onnx(case: OnnxCase) -> None:
    ((arrays, results),) = case.data_sets
    asked = attributes(case.model)
    given, eps = wide(*arrays), asked["epsilon"]
    if asked["training_mode"]:
        predicted = prediction.train(given, ONNX, FLOAT32, eps=eps, momentum=1 - asked["momentum"])
    else:
        predicted = prediction.evaluate(given, ONNX, FLOAT32, eps=eps)
    assert_near(dict(zip(("y", "running_mean", "running_var"), results, strict=False)), predicted)


CONVERTED = Path(onnx.backend.test.__path__[0]) / "data" / "pytorch-converted"


@pytest.mark.parametrize("folder", sorted(CONVERTED.glob("test_BatchNorm*_eval")), ids=lambda folder: folder.name)
def test_onnx_models_converted_from_pytorch(folder: Path) -> None:
    """Ranks 3 to 5, as PyTorch 0.3 computed them."""

    def stored(name: str) -> np.ndarray:
        tensor = onnx.TensorProto.FromString((folder / "test_data_set_0" / name).read_bytes())
        return onnx.numpy_helper.to_array(tensor)

    model = onnx.load(folder / "model.onnx")
    parameters = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    given = wide(stored("input_0.pb"), *(parameters[name] for name in model.graph.node[0].input[1:]))
    predicted = prediction.evaluate(given, ARTICLE, FLOAT32, eps=attributes(model)["epsilon"])
    assert_near({"y": stored("output_0.pb")}, predicted)


# -- PyTorch, in float64 ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("shape", [(6, 3), (3, 2, 5), (2, 3, 4, 5), (2, 2, 3, 2, 4)])
def test_pytorch(shape: tuple[int, ...], condition: float) -> None:
    torch = pytest.importorskip("torch")
    case = Case(dtype="float64", shape=shape, data="bell", seed=3, location=condition, eps=1e-3, momentum=0.3)
    given = inputs(case)
    for training in (True, False):
        x, weight, bias, mean, var, dy = (torch.tensor(array) for array in given)
        leaves = [tensor.requires_grad_() for tensor in (x, weight, bias)]
        y = torch.nn.functional.batch_norm(x, mean, var, weight, bias, training, case.momentum, case.eps)
        gradients = torch.autograd.grad(y, leaves, dy)
        results = dict(zip(("dx", "dweight", "dbias"), gradients, strict=True)) | {"y": y.detach()}
        if training:
            predicted = {
                **prediction.train(given, ARTICLE, FLOAT64, eps=case.eps, momentum=case.momentum),
                **prediction.train_gradients(given, ARTICLE, FLOAT64, eps=case.eps),
            }
            results |= {"running_mean": mean, "running_var": var}
        else:
            predicted = {
                **prediction.evaluate(given, ARTICLE, FLOAT64, eps=case.eps),
                **prediction.evaluate_gradients(given, ARTICLE, FLOAT64, eps=case.eps),
            }
        assert set(results) == set(predicted)
        assert_near(results, predicted)


def test_pytorch_folds_alike() -> None:
    """PyTorch folds a batch norm into the linear map before it; before the identity nothing else is left."""
    torch = pytest.importorskip("torch")
    fold = importlib.import_module("torch.nn.utils.fusion").fuse_linear_bn_weights
    given = inputs(Case(dtype="float64", shape=(2, 5), data="bell", seed=4, location=3.0))
    weight, bias, mean, var = (torch.tensor(array) for array in given[1:5])
    identity, none = torch.eye(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    slopes, intercept = fold(identity, none, mean, var, 1e-3, weight, bias)
    ours = reference.fold(*given[1:5], eps=1e-3)
    # On both sides: the root, the product with weight, then that with mean, and the difference.
    size = abs(ours[0] * given.running_mean) + abs(given.bias)
    np.testing.assert_array_less(abs(np.diag(slopes) - ours[0]), 2 * (ROOT_STEPS + 1) * 2.0**-53 * abs(ours[0]))
    np.testing.assert_array_less(abs(np.asarray(intercept) - ours[1]), 2 * (ROOT_STEPS + 3) * 2.0**-53 * size)


# -- by hand ----------------------------------------------------------------------------------------------------------


def root(square: Fraction) -> Fraction:
    """The root of a fraction that has one."""
    found = Fraction(isqrt(square.numerator), isqrt(square.denominator))
    assert found**2 == square
    return found


@pytest.mark.parametrize(("share", "factor"), [(1, 2), (13, 4)])
@pytest.mark.parametrize("scale", [Fraction(1), Fraction(2), Fraction(1, 4)])
@pytest.mark.parametrize("mean", [Fraction(0), Fraction(5), Fraction(-3, 2)])
def test_four_points(mean: Fraction, scale: Fraction, share: int, factor: int) -> None:
    """x = mean + s * {-3, 1, 1, 1} has m-variance 3 s^2 and sample variance 4 s^2.

    With eps = s^2 the root is 2 s, with 13 s^2 it is 4 s. All numbers are short in binary, so float64 must give them
    exactly.
    """
    x = [mean + scale * k for k in (-3, 1, 1, 1)]
    var, sample_var, eps = 3 * scale**2, 4 * scale**2, share * scale**2
    assert sum(x) / 4 == mean
    assert sum((value - mean) ** 2 for value in x) / 4 == var
    assert sum((value - mean) ** 2 for value in x) / 3 == sample_var
    assert root(var + eps) == factor * scale

    weight, bias, old_mean, old_var, momentum = Fraction(3, 2), Fraction(-1), Fraction(10), Fraction(8), Fraction(1, 4)
    x_hat = [(value - mean) / root(var + eps) for value in x]
    y = [weight * value + bias for value in x_hat]
    new_mean = (1 - momentum) * old_mean + momentum * mean
    new_var = (1 - momentum) * old_var + momentum * sample_var
    arrays = [np.array([float(value)]) for value in (weight, bias, old_mean, old_var)]
    batch = np.array([[float(value)] for value in x])
    results = reference.train(batch, *arrays, momentum=float(momentum), eps=float(eps))
    for result, known in zip(results, (y, [new_mean], [new_var]), strict=True):
        assert [Fraction(value) for value in result.ravel()] == known

    # dy = (4, 0, 0, 0) and g = weight * dy, so that mean(g) = weight and mean(g * x-hat) = weight * x-hat[0].
    dx = [(weight * (4 if i == 0 else 0) - weight - x_hat[i] * weight * x_hat[0]) / root(var + eps) for i in range(4)]
    dy = np.array([[4.0], [0.0], [0.0], [0.0]])
    gradients = reference.train_gradients(batch, *arrays[:2], dy, eps=float(eps))
    for result, known in zip(gradients, (dx, [4 * x_hat[0]], [4]), strict=True):
        assert [Fraction(value) for value in result.ravel()] == known
    assert sum(dx) == 0


def test_four_points_in_evaluation() -> None:
    """Running mean 2 and variance 3 with eps = 13: root 4. At x = 10 x-hat is 2; as one map y = 3/2 x - 4."""
    state = [np.array([value]) for value in (6.0, -1.0, 2.0, 3.0)]
    x, dy = np.array([[10.0], [2.0]]), np.array([[1.0], [-3.0]])
    assert reference.evaluate(x, *state, eps=13.0).tolist() == [[11.0], [-1.0]]
    assert [part.item() for part in reference.fold(*state, eps=13.0)] == [1.5, -4.0]
    dx, dweight, dbias = reference.evaluate_gradients(x, *state, dy, eps=13.0)
    assert dx.tolist() == [[1.5], [-4.5]]
    assert (dweight.item(), dbias.item()) == (2.0, -2.0)
