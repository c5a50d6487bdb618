"""The contract between the suite and an adapter, in one place. An adapter imports nothing from here: it is structural.

An adapter is a module, a class (called without arguments) or an object with the two functions of `Operation`.
Everything else is optional, and what is missing is reported as *not offered*.

**Arrays** are NumPy arrays in and out. x and dy are (N, C, *spatial), of the dtype under test; C is always axis 1 and
the memory may be laid out in any way (strides, channels last, overlapping). weight, bias, running_mean, running_var,
and the gradients of the first two, are (C,): of x's dtype, or float32 where x is float16 or bfloat16 (bfloat16 is
`ml_dtypes.bfloat16`). Returned arrays have the same dtypes and shapes, and share no memory with anything given.

**momentum** is handed to the framework as it is, to the argument that its users give. In the article it weighs the new
value: running = (1 - momentum) * running + momentum * batch. Where it weighs the old one, that is a deviation with a
name; converted here, it would be hidden from those who come to learn of it.

**Refusing**: raise NotImplementedError for what the backend does not offer (a rank, a dtype, ...). Any other exception
on ordinary input is reported as a crash; on input that a backend may refuse (one value a channel, an empty batch,
eps = 0) it counts as a refusal.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, Protocol, TypedDict

from numpy.typing import NDArray

Array = NDArray[Any]


class Operation(Protocol):
    """What every adapter offers: a training step and an evaluation, as functions without memory."""

    def train(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        running_mean: Array,
        running_var: Array,
        *,
        momentum: float,
        eps: float,
    ) -> tuple[Array, Array, Array]:
        """y, and the new running mean and running variance."""

    def evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        """y, from the running statistics."""


class Gradients(Protocol):
    """Optional: the backend's own gradients of sum(dy * y), in training and in evaluation."""

    def train_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, eps: float
    ) -> tuple[Array, Array, Array]:
        """dx, dweight and dbias, through the statistics of the batch."""

    def evaluate_gradients(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        running_mean: Array,
        running_var: Array,
        dy: Array,
        *,
        eps: float,
    ) -> tuple[Array, Array, Array]:
        """dx, dweight and dbias, with the running statistics as constants."""


class Relatives(Protocol):
    """Optional, each by itself: the operations that normalize within a sample. x may have any shape from (N, C) on.

    Each has its gradients beside it, as `layer_norm_gradients(x, weight, bias, dy, *, eps)`: dx, dweight and dbias.
    """

    def layer_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        """y, each sample over its last axes: those that weight and bias have, which are of that shape."""

    def instance_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        """y, each sample and channel over space; x is (N, C, *spatial), weight and bias are (C,)."""

    def group_norm(self, x: Array, weight: Array, bias: Array, *, num_groups: int, eps: float) -> Array:
        """y, each sample over groups of C / num_groups neighbouring channels and space; weight and bias are (C,)."""

    def rms_norm(self, x: Array, weight: Array, *, eps: float) -> Array:
        """y = weight * x / sqrt(mean(x^2) + eps) over the axes that weight has; its gradients are dx and dweight."""


class TrackedInstanceNorm(Protocol):
    """Optional: instance norm with running statistics, arguments and results as in `Operation`."""

    def instance_norm_train(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        running_mean: Array,
        running_var: Array,
        *,
        momentum: float,
        eps: float,
    ) -> tuple[Array, Array, Array]:
        """y, by each sample's own statistics, and the new running mean and variance, (C,)."""

    def instance_norm_evaluate(
        self, x: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, *, eps: float
    ) -> Array:
        """y, from the running statistics."""


class OtherMeasures(Protocol):
    """Optional: batch norm with another deviation or center. Each has its gradients beside it, with dy after bias."""

    def l1_batch_norm(self, x: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        """y = weight * (x - mean) / (mean|x - mean| + eps) + bias, per channel."""

    def generalized_batch_norm(
        self, x: Array, weight: Array, bias: Array, *, center: str, deviation: str, eps: float
    ) -> Array:
        """y = weight * (x - S) / sqrt(D^2 + eps) + bias, per channel.

        `center` names S: "mean", "median" (of an even count the mean of the two in the middle) or "midrange" (of
        smallest and largest). `deviation` names D, which is measured from S, whatever that is: "standard" (divisor m),
        "mean absolute" or "half range". Raise NotImplementedError for what is not offered.
        """


class AfterLinear(Protocol):
    """Optional: the framework's own linear layer, and batch norm in training behind it.

    u is (N, I, *spatial), w (C, I, *kernel) and b (C,), all of u's dtype. With spatial axes the layer is a convolution
    with stride 1 and without padding, so that y is (N, C, *(spatial - kernel + 1)); weight and bias are as ever.
    """

    def linear_norm(self, u: Array, w: Array, b: Array, weight: Array, bias: Array, *, eps: float) -> Array:
        """y = batch norm of W u + b."""

    def linear_norm_gradients(
        self, u: Array, w: Array, b: Array, weight: Array, bias: Array, dy: Array, *, eps: float
    ) -> tuple[Array, Array, Array, Array, Array]:
        """du, dw, db, dweight and dbias."""


class Synchronized(Protocol):
    """Optional: a training step whose batch is split over several devices, as data-parallel training does.

    The batch axis is split evenly, `devices` consecutive parts of x for as many devices; where there are fewer, raise
    NotImplementedError. PyTorch's SyncBatchNorm runs on GPUs alone, a process each: our adapter says it is not run.
    """

    def train_split(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        running_mean: Array,
        running_var: Array,
        *,
        devices: int,
        momentum: float,
        eps: float,
    ) -> tuple[Array, Array, Array]:
        """y of the whole batch, in x's order, and the new running mean and variance, the same on every device."""

    def train_split_gradients(
        self, x: Array, weight: Array, bias: Array, dy: Array, *, devices: int, eps: float
    ) -> tuple[Array, Array, Array]:
        """dx in x's order, dweight and dbias of the sum of dy * y over all devices."""


class WeightNorm(Protocol):
    """Optional: the reparametrization of weights, v of (units, ...) and g of (units,)."""

    def weight_norm(self, v: Array, g: Array) -> Array:
        """w = g v / |v| of v's shape, the norm over all axes but the first."""

    def weight_norm_gradients(self, v: Array, g: Array, dw: Array) -> tuple[Array, Array]:
        """dv and dg."""


class Layer(Protocol):
    """A batch norm layer of the framework, as its users build it."""

    def train(self, x: Array) -> Array:
        """y of one step in training mode; moves the state."""

    def evaluate(self, x: Array) -> Array:
        """y in evaluation mode."""

    def state(self) -> Mapping[str, Array]:
        """The layer's weight, bias, running_mean and running_var, (C,) each."""


class HasLayer(Protocol):
    """Optional: the framework's layer, for default values, initial state, and what happens over several steps."""

    def layer(self, num_features: int, *, ndim: int, dtype: str, **options: float | None) -> Layer:
        """A new layer for x with `ndim` axes and `num_features` channels.

        `options` may hold eps and momentum (None: average all batches equally). What it does not hold is left to the
        framework's own default.
        """


class Training(Protocol):
    """Optional: a small network of the framework's own layers and optimizer, trained from beginning to end."""

    def train_network(
        self,
        x: Array,
        labels: Array,
        *,
        depth: int,
        width: int,
        normalized: bool,
        learning_rate: float,
        momentum: float,
        eps: float,
        batch: int,
        epochs: int,
        settling: int,
        seed: int,
    ) -> tuple[Array, Array, Array, Array, Array, Array]:
        """Classify x, (N, features), whose labels, (N,) int64, count from 0; x is float32 and so is all that returns.

        The network has `depth` hidden layers of `width` units, each a linear map, batch norm if `normalized`, ReLU, and
        a linear map to a unit a class. Weights start uniform within 1 / sqrt(fan in), from `seed`; biases may start
        likewise or at 0. It descends along plain gradients of the mean cross entropy, in `epochs` passes over batches
        of `batch` samples, in the order of x; N is a multiple of `batch`. Then come `settling` passes over the same
        batches, at least one, in training mode but without any change to parameters: the state alone moves.
        `momentum` and `eps` are batch norm's.

        Returns six arrays; L is `depth` if `normalized`, else 0. The loss of each training step, (epochs * N / batch,).
        The logits in training mode, (N, classes), and what the batch norm layers were given, (L, N, width), both in the
        last settling pass. running_mean and running_var, (2, L, width) each, before and after settling. The logits in
        evaluation after that, (N, classes).
        """


class Deviation(TypedDict):
    """A known deviation. The run is green exactly if all is as declared.

    Declare it in the TOML file beside the adapter (`my_norm.toml` beside `my_norm.py`), or here, in the adapter's code.
    """

    claim: str
    rival: str
    """The rival's name, as the matrix prints it; or, where it follows none, the verdict: "fails", "crashed", "hung" or
    "inconclusive"."""
    versions: str
    """The framework's versions that behave so, as PEP 440 specifiers: ">=2.0", "" for all."""
    reason: str
    link: str
    """Where the framework documents it, or "undocumented"."""
    dtypes: NotRequired[Sequence[str]]
    """The dtypes it concerns; all, if absent."""


class About(Protocol):
    """Optional attributes that describe the adapter."""

    name: str
    """What the matrix calls it; the file's or class's name if absent."""
    version: str
    """The framework's version; "unknown" if absent."""
    dtypes: Sequence[str]
    """Of "float64", "float32", "bfloat16" and "float16"; the first two if absent."""
    deviations: Sequence[Deviation]
    compiles: bool
    """True where every single operation is compiled anew for each shape: the suite then gets by with few shapes."""
    unavailable: str
    """Why it cannot run on this machine; empty if it can."""
    script: str
    """Python source for stand-alone scripts: imports, and `train` and `evaluate` (and the gradients) as functions."""
