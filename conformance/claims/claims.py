"""The claims of the specification, as data: what each states, where it comes from, and its rivals.

A rival is what people do instead. Most are one choice of `Rules` replaced, and so can be computed; others are named
mistakes that a check recognizes, or grades of precision. Section numbers are the article's; [1] is Ioffe & Szegedy 2015
(arXiv 1502.03167). The check of claim `topic.statement` is `test_statement` in `test_topic.py`. Where the article errs,
`errata.py` says what decides; `chinese.py` and `formulas.py` tell the claims in other words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from normspec.reference import ARTICLE, Rules


@dataclass(frozen=True)
class Rival:
    """What an implementation may do instead of what a claim states."""

    name: str
    change: tuple[tuple[str, Any], ...] = ()
    """The fields of Rules it replaces; empty for mistakes that no formula describes."""
    layer: bool = False
    """Whether it needs memory from step to step, so that only a layer can show it."""

    def rules(self, base: Rules = ARTICLE) -> Rules:
        """`base` with the rival's choice."""
        return replace(base, **dict(self.change))

    @property
    def fields(self) -> frozenset[str]:
        """The fields of Rules it is about."""
        return frozenset(name for name, _ in self.change)


@dataclass(frozen=True)
class Claim:
    """One statement of the specification."""

    id: str
    source: str
    """Section of the article, or equation of a paper."""
    text: str
    rivals: tuple[Rival, ...] = ()
    undecidable: Mapping[str, str] | None = None
    """dtypes in which no data can decide it, with the reason."""
    hint: str = ""
    """What to look at when it fails."""
    operation: str = "batch norm"
    """What it is about; its rivals replace a choice of that operation's rules."""
    follows: tuple[str, ...] = ()
    """Claims from which it follows: where one of them is refused, so is this, and there is the cause."""

    @property
    def fields(self) -> frozenset[str]:
        """The fields of Rules that this claim decides."""
        return frozenset().union(*(r.fields for r in self.rivals))


def _rival(name: str, *, layer: bool = False, **change: Any) -> Rival:
    return Rival(name, tuple(change.items()), layer)


def _mistakes(*names: str) -> tuple[Rival, ...]:
    return tuple(Rival(name) for name in names)


_WHOLE_BATCH = "which axes the mean and variance run over"
_IN_HALF = "data with any spread have mean/deviation below 1/u there, so a one-pass variance loses nothing that shows"
_HALF = {"float16": _IN_HALF, "bfloat16": _IN_HALF}
_NO_HALF = "the question is about half precision only"
_IN_FLOAT32 = dict.fromkeys(("float64", "float16", "bfloat16"), "the experiment is stated in float32")

_SAMPLE_VARIANCE = _rival("sample variance, divisor one less", ddof=1)
_PLACES_OF_EPS = (
    _rival("sqrt(var) + eps", eps_rule="outside"),
    _rival("no eps", eps_rule="absent"),
    _rival("max(var, eps)", eps_rule="larger of both"),
)
_PARAMETERS = (
    _rival("weight ignored", affine="no weight"),
    _rival("bias ignored", affine="no bias"),
    _rival("(x-hat + bias) * weight", affine="shift, then scale"),
    _rival("1 + weight", affine="1 + weight"),
)
_SHARES = (
    _rival("statistics held constant", input_gradient="statistics constant"),
    _rival("mean term missing", input_gradient="no mean term"),
    _rival("variance term missing", input_gradient="no variance term"),
    _rival("variance term with the wrong sign", input_gradient="variance term added"),
    _rival("weight missing in dx", input_gradient="weight lost"),
    _rival("dweight with raw x for x-hat", weight_gradient="of raw x"),
    _rival("dweight averaged", weight_gradient="averaged"),
)
_OF_BIAS = (
    _rival("dbias averaged", bias_gradient="averaged"),
    _rival("dbias times weight", bias_gradient="times weight"),
)
_OVER_ALL = "which axes the mean and variance run over, and how weight and bias lie"

_ALL = (
    # -- section 2: normalization in training --------------------------------------------------------------------------
    Claim(
        "statistics.per-channel",
        "section 2",
        "Mean and variance are vectors, one entry a channel, taken over the batch and all spatial positions.",
        (
            _rival("over the whole tensor", axes="tensor"),
            _rival("per sample and channel", axes="sample and channel"),
            _rival("per position (batch axis only)", axes="position"),
            _rival("over all but the last axis", axes="last axis"),
            _rival("over all of one sample", axes="sample"),
        ),
        hint=_WHOLE_BATCH,
    ),
    Claim(
        "normalize.uses-batch-statistics",
        "section 2",
        "In training, x is normalized with the statistics of its own batch.",
        (
            _rival("running statistics before the update", training_statistics="running before"),
            _rival("running statistics after the update", training_statistics="running after"),
        ),
        hint="whether the training flag reaches the kernel",
    ),
    Claim(
        "normalize.population-variance",
        "section 3",
        "The variance that normalizes has divisor m.",
        (_rival("sample variance, divisor m - 1", ddof=1),),
        hint="the ddof, correction or unbiased argument of the variance",
    ),
    Claim(
        "normalize.eps-inside-root",
        "section 2; [1] algorithm 1",
        "x-hat = (x - mean) / sqrt(var + eps): eps is added to the variance, under the root, as given.",
        (
            _rival("sqrt(var) + eps", eps_rule="outside"),
            _rival("no eps", eps_rule="absent"),
            _rival("max(var, eps)", eps_rule="larger of both"),
            _rival("sqrt(var) + sqrt(eps)", eps_rule="both roots"),
            _rival("var + eps^2", eps_rule="squared"),
            _rival("var + 2 eps", eps_rule="doubled"),
            _rival("eps ignored, 1e-5 used", eps_rule="always 1e-5"),
            _rival("eps raised to at least 1e-5", eps_rule="at least 1e-5"),
            _rival("eps = 0 taken for the default", eps_rule="0 means 1e-5"),
        ),
        hint="where eps is added, and whether the argument arrives",
    ),
    Claim(
        "normalize.eps-default",
        "section 3 (code); a choice",
        "A layer built without eps uses 1e-5.",
        hint="the default of eps; the value found is in the matrix",
        follows=("normalize.eps-inside-root",),
    ),
    Claim(
        "normalize.centered",
        "section 2",
        "In every channel the mean of x-hat over the batch is 0.",
        (_rival("mean not subtracted", centered=False),),
        hint="whether the mean is subtracted, and which one",
        follows=("statistics.per-channel", "normalize.eps-inside-root", "precision.within-bound"),
    ),
    Claim(
        "normalize.unit-spread",
        "section 2",
        "In every channel the m-variance of x-hat is var / (var + eps): 1, but for eps.",
        (_rival("not divided by the deviation", scaled=False),),
        hint="the reciprocal root",
        follows=(
            "statistics.per-channel",
            "normalize.population-variance",
            "normalize.eps-inside-root",
            "precision.within-bound",
        ),
    ),
    Claim(
        "normalize.constant-channel",
        "section 2",
        "A channel without variance gives bias, finite: eps keeps the denominator from 0.",
        (_rival("not finite where the variance is 0", eps_rule="absent"),),
        hint="whether eps reaches the denominator",
        follows=("normalize.eps-inside-root",),
    ),
    Claim(
        "normalize.batch-coupling",
        "section 2",
        "In training, what a sample becomes depends on the other samples of its batch.",
        (_rival("independent of its batch", axes="sample and channel"),),
        hint=_WHOLE_BATCH,
        follows=(
            "statistics.per-channel",
            "normalize.uses-batch-statistics",
            "normalize.constant-channel",
            "precision.within-bound",
        ),
    ),
    Claim(
        "affine.scale-then-shift",
        "section 2; [1] algorithm 1",
        "y = weight * x-hat + bias, with one weight and one bias a channel.",
        (
            _rival("weight ignored", affine="no weight"),
            _rival("bias ignored", affine="no bias"),
            _rival("(x-hat + bias) * weight", affine="shift, then scale"),
            _rival("weight and bias swapped", affine="swapped"),
            _rival("|weight|", affine="absolute weight"),
            _rival("1 + weight", affine="1 + weight"),
            _rival("weight = 0 taken for 1", affine="weight 0 means 1"),
            _rival("weight by last axis, not channel", affine="weight by position"),
            _rival("channel c takes the weight of c mod 16", affine="16 channels"),
        ),
        hint="how weight and bias are broadcast",
    ),
    Claim(
        "affine.defaults",
        "section 2",
        "A new layer has weight 1 and bias 0.",
        _mistakes("weight not 1", "bias not 0"),
        hint="the initializers",
    ),
    Claim(
        "affine.can-undo",
        "[1] section 3",
        "With weight = sqrt(var + eps) and bias = mean the layer returns its input.",
        (
            _rival("bias ignored", affine="no bias"),
            _rival("weight ignored", affine="no weight"),
            _rival("(x-hat + bias) * weight", affine="shift, then scale"),
        ),
        hint="the order of scale and shift",
        follows=("affine.scale-then-shift", "normalize.eps-inside-root"),
    ),
    # -- section 2: evaluation -----------------------------------------------------------------------------------------
    Claim(
        "evaluate.folded",
        "section 2, the last formula",
        "Evaluation is the affine map x * weight / sqrt(var + eps) + (bias - weight * mean / sqrt(var + eps)).",
        (
            _rival("sign lost in the intercept", folded="sign lost"),
            _rival("weight lost in the intercept", folded="weight lost"),
            _rival("eps missing in evaluation", folded="eps lost"),
        ),
        hint="the precomputed slope and intercept",
    ),
    Claim(
        "evaluate.running-statistics",
        "section 2",
        "Evaluation normalizes with the tracked statistics.",
        (
            _rival("the batch's statistics", evaluation_statistics="batch"),
            _rival("batch mean, tracked variance", evaluation_statistics="batch mean"),
            _rival("tracked mean, batch variance", evaluation_statistics="batch variance"),
            _rival("the batch's when one sample comes alone", evaluation_statistics="batch when alone"),
        ),
        hint="whether the evaluation flag reaches the kernel",
    ),
    Claim(
        "evaluate.sample-alone",
        "section 2",
        "In evaluation a sample gives the same alone as in any batch, in any order, and beside its own copy.",
        (
            _rival("another result when alone", evaluation_statistics="batch when alone"),
            _rival("depends on its batch", evaluation_statistics="batch"),
        ),
        hint="anything in evaluation that reads more than one sample",
        follows=("evaluate.running-statistics",),
    ),
    Claim(
        "evaluate.frozen",
        "section 2",
        "Evaluation changes no state, however often it runs.",
        (_rival("evaluation updates the state", evaluation_state="updated"),),
        hint="the update, which belongs to training alone",
    ),
    Claim(
        "evaluate.before-training",
        "sections 2 and 3",
        "A new layer in evaluation gives x / sqrt(1 + eps): it starts from mean 0 and variance 1.",
        (
            _rival("starts from variance 0", initial_var=0),
            _rival("the batch's statistics", evaluation_statistics="batch"),
        ),
        hint="the initial running variance",
        follows=("evaluate.running-statistics", "evaluate.folded", "running.initial"),
    ),
    # -- section 2: gradients ------------------------------------------------------------------------------------------
    Claim(
        "gradient.input",
        "[1] section 3",
        "dx is the full derivative, through mean and variance: (g - mean(g) - x-hat mean(g x-hat)) / sqrt(var + eps).",
        (
            _rival("statistics held constant", input_gradient="statistics constant"),
            _rival("mean term missing", input_gradient="no mean term"),
            _rival("variance term missing", input_gradient="no variance term"),
            _rival("mean term with the wrong sign", input_gradient="mean term added"),
            _rival("variance term with the wrong sign", input_gradient="variance term added"),
            _rival("m - 1 in the variance term", input_gradient="m - 1"),
            _rival("divided by the batch size, not by m", input_gradient="N"),
            _rival("weight missing", input_gradient="weight lost"),
            _rival("eps ignored in the variance term", input_gradient="eps ignored"),
        ),
        hint="the two terms that go through the statistics",
        follows=("gradient.weight", "gradient.bias"),
    ),
    Claim(
        "gradient.evaluation",
        "section 2",
        "In evaluation dx = weight * dy / sqrt(running_var + eps): the statistics are constants.",
        (
            _rival("training formula", evaluation_gradient="training formula"),
            _rival("reciprocal root missing", evaluation_gradient="root lost"),
            _rival("weight missing", evaluation_gradient="weight lost"),
        ),
        hint="whether the backward pass knows the mode",
    ),
    Claim(
        "gradient.weight",
        "section 2; [1] section 3",
        "dweight = sum of dy * x-hat over all but the channels.",
        (
            _rival("with raw x for x-hat", weight_gradient="of raw x"),
            _rival("averaged over m", weight_gradient="averaged"),
            _rival("times weight", weight_gradient="times weight"),
            _rival("summed over the batch, averaged over space", weight_gradient="over the batch only"),
        ),
        hint="the reduction of dy * x-hat",
        follows=("gradient.bias",),
    ),
    Claim(
        "gradient.bias",
        "section 2; [1] section 3",
        "dbias = sum of dy over all but the channels.",
        (
            _rival("averaged over m", bias_gradient="averaged"),
            _rival("times weight", bias_gradient="times weight"),
            _rival("summed over the batch, averaged over space", bias_gradient="over the batch only"),
        ),
        hint="the reduction of dy",
    ),
    # -- section 3: running statistics ---------------------------------------------------------------------------------
    Claim(
        "running.update",
        "section 3",
        "running = (1 - momentum) * running + momentum * batch, for mean and variance alike.",
        (
            _rival("momentum weighs the old value", update="flipped"),
            _rival("momentum weighs the old value, mean only", update="mean flipped"),
            _rival("momentum weighs the old value, variance only", update="variance flipped"),
            _rival("momentum fixed at 0.1", update="always 0.1"),
            _rival("average of all batches", layer=True, update="cumulative"),
            _rival("zero-debiased", layer=True, update="zero-debiased"),
            _rival("first batch replaces the start", layer=True, update="first batch replaces"),
            _rival("only the mean moves", update="mean only"),
            _rival("only the variance moves", update="variance only"),
            _rival("updated twice", update="twice"),
            _rival("one step late", layer=True, update="one step late"),
            _rival("deviations averaged, not variances", update="deviations"),
        ),
        hint="which value momentum multiplies: TensorFlow's and Keras's momentum is 1 minus this one",
    ),
    Claim(
        "running.momentum-default",
        "section 3; a choice",
        "A layer built without momentum gives the new value a weight of 0.1.",
        hint="the default of momentum; the value found is in the matrix, as the weight of the new value",
        follows=("running.update",),
    ),
    Claim(
        "running.momentum-extremes",
        "section 3",
        "momentum 0 keeps the state and momentum 1 takes the batch: neither means the default.",
        (
            _rival("0 taken for the default", extremes="0 means 0.1"),
            _rival("1 taken for the default", extremes="1 means 0.1"),
        ),
        hint="tests like `if momentum` or `momentum or default`",
    ),
    Claim(
        "running.sample-variance",
        "section 3; [1] algorithm 2",
        "The tracked variance has divisor m - 1.",
        (
            _rival("population variance, divisor m", tracked_variance="m"),
            _rival("divisor N - 1, N the batch size", tracked_variance="N - 1"),
            _rival("N / (N - 1) for m / (m - 1)", tracked_variance="N / (N - 1)"),
            _rival("eps mixed in", tracked_variance="plus eps"),
            _rival("mean of the samples' variances", tracked_variance="mean of samples"),
        ),
        hint="the factor m / (m - 1) between the variance that normalizes and the one that is tracked",
    ),
    Claim(
        "running.initial",
        "section 3",
        "The running statistics start at mean 0 and variance 1.",
        (
            _rival("variance starts at 0", initial_var=0),
            *_mistakes("variance not 1", "mean not 0"),
        ),
        hint="the initializers of the state",
    ),
    Claim(
        "running.of-the-input",
        "section 3",
        "The tracked statistics are those of x, whatever weight and bias.",
        (_rival("of the output", tracked_of="output"),),
        hint="which tensor the update reads",
    ),
    Claim(
        "running.converges",
        "sections 2 and 3",
        "One batch seen k times leaves a weight of (1 - momentum)^k on the start: the state settles on the data's.",
        (
            _rival("momentum weighs the old value", update="flipped"),
            _rival("momentum fixed at 0.1", update="always 0.1"),
            _rival("updated twice", update="twice"),
            _rival("only the mean moves", update="mean only"),
            _rival("only the variance moves", update="variance only"),
        ),
        hint="the update over several steps",
        follows=("running.update", "running.sample-variance"),
    ),
    Claim(
        "running.single-value",
        "section 3",
        "One value a channel has no sample variance: training refuses it or stays finite, the state never NaN or inf.",
        _mistakes("NaN or inf in the state", "NaN or inf in the gradients"),
        hint="the division by m - 1 at m = 1",
    ),
    Claim(
        "running.cumulative",
        "PyTorch's extension of section 3",
        "With momentum None all batches weigh the same: after k of them the state is their average.",
        (_rival("None taken for the default", no_momentum="means 0.1"),),
        hint="the count of batches",
        follows=("running.update", "running.momentum-extremes", "layer.follows-operation", "precision.within-bound"),
    ),
    # -- sections 2 and 3: the layer -----------------------------------------------------------------------------------
    Claim(
        "layer.follows-operation",
        "section 3 (code)",
        "A layer does what its operation does, with the eps and momentum it was built with, from its own state.",
        (
            _rival("eps ignored, 1e-5 used", eps_rule="always 1e-5"),
            _rival("eps = 0 taken for the default", eps_rule="0 means 1e-5"),
            _rival("momentum fixed at 0.1", update="always 0.1"),
            _rival("momentum = 0 taken for the default", extremes="0 means 0.1"),
            _rival("updated twice", update="twice"),
            _rival("population variance, divisor m", tracked_variance="m"),
            _rival("running statistics before the update", training_statistics="running before"),
            _rival("the batch's statistics", evaluation_statistics="batch"),
        ),
        hint="what the layer hands on to its kernel: options, state, mode",
    ),
    # -- section 3: precision ------------------------------------------------------------------------------------------
    Claim(
        "precision.within-bound",
        "section 3 (experiment)",
        "Own formula and framework agree up to rounding: every result is within the derived bound.",
        _mistakes("narrow sums"),
        hint="the dtype of the accumulators, approximate reciprocal roots",
    ),
    Claim(
        "precision.cancellation",
        "section 3",
        "The variance keeps its precision where the mean dwarfs the spread, as two passes over the data do.",
        _mistakes("one pass", "narrow sums", "NaN from a negative variance"),
        undecidable=_HALF,
        hint="E[x^2] - E[x]^2",
    ),
    Claim(
        "precision.half-statistics",
        "section 3",
        "Statistics of half-precision data are summed and kept in float32 or wider.",
        _mistakes("half steps", "narrow"),
        undecidable={"float64": _NO_HALF, "float32": _NO_HALF},
        hint="the dtype of mean and variance",
    ),
    Claim(
        "precision.half-gradients",
        "[1] section 3",
        "Gradients of half-precision data are summed in float32 or wider.",
        _mistakes("half steps", "narrow"),
        undecidable={"float64": _NO_HALF, "float32": _NO_HALF},
        hint="the dtype in which dy and dy * x-hat are added up, for every memory layout",
    ),
    Claim(
        "precision.extent",
        "section 2",
        "Every value of a long reduction counts, to the last remainder.",
        (
            _rival("the last value is lost", counted="all but the last"),
            _rival("the first value is lost", counted="all but the first"),
            *(
                _rival(f"values beyond whole blocks of {n} are lost", counted=f"whole blocks of {n}")
                for n in (4, 8, 16, 32, 64, 256, 1024)
            ),
            *(_rival(f"values beyond the first {n} are lost", counted=f"the first {n}") for n in (1024, 4096, 65536)),
            Rival("narrow sums"),
        ),
        hint="the tail of a blocked or vectorized loop, the dtype of the accumulators",
    ),
    Claim(
        "precision.large-finite",
        "section 2",
        "Finite data whose result is representable give a finite and right result, as far as squares fit in float32.",
        _mistakes("squares overflow early"),
        hint="the dtype in which deviations are squared; how far it holds is in the matrix",
    ),
    # -- the article's own experiment ----------------------------------------------------------------------------------
    Claim(
        "example.article",
        "section 3 (code)",
        "The article's experiment: a (2, 2, 2, 2) standard normal batch through a new layer, against the formula.",
        (
            _rival("sample variance, divisor m - 1", ddof=1),
            _rival("population variance, divisor m", tracked_variance="m"),
        ),
        undecidable=dict.fromkeys(("float16", "bfloat16"), "the experiment is stated in float32"),
        hint="the claims on normalize and running say which part differs",
        follows=("running.update", "running.sample-variance"),
    ),
    # -- section 4: the relatives --------------------------------------------------------------------------------------
    Claim(
        "relatives.layer-norm",
        "section 4; arXiv 1607.06450, equation 3",
        "Layer norm takes mean and m-variance of each sample by itself, over all axes that weight and bias have.",
        (
            _rival("over the last axis alone", axes="over the last axis"),
            _rival("over the batch as well", axes="tensor"),
            _rival("each position over the batch", axes="position"),
            _rival("root mean square, not centered", center="zero"),
            _rival("mean not subtracted", centered=False),
            _SAMPLE_VARIANCE,
            *_PLACES_OF_EPS,
            *_PARAMETERS,
        ),
        hint=_OVER_ALL,
        operation="layer norm",
    ),
    Claim(
        "relatives.layer-norm-gradients",
        "section 4; [1] section 3",
        "dx goes through the sample's own mean and variance; dweight and dbias are summed over the samples.",
        (*_SHARES, *_OF_BIAS),
        hint="the two terms that go through the statistics, and the axes of the sums",
        operation="layer norm",
        follows=("relatives.layer-norm",),
    ),
    Claim(
        "relatives.instance-norm",
        "section 4; arXiv 1607.08022, equation 5",
        "Instance norm takes mean and m-variance of each sample and channel by itself, over space.",
        (
            _rival("over the batch as well", axes="channel"),
            _rival("over the channels as well", axes="sample"),
            _rival("over the last axis alone", axes="over the last axis"),
            _SAMPLE_VARIANCE,
            *_PLACES_OF_EPS,
            *_PARAMETERS,
        ),
        hint=_OVER_ALL,
        operation="instance norm",
    ),
    Claim(
        "relatives.instance-norm-gradients",
        "section 4; [1] section 3",
        "dx goes through each sample and channel's statistics; dweight and dbias are summed over samples and space.",
        (*_SHARES, *_OF_BIAS),
        hint="the two terms that go through the statistics, and the axes of the sums",
        operation="instance norm",
        follows=("relatives.instance-norm",),
    ),
    Claim(
        "relatives.group-norm",
        "section 4; arXiv 1803.08494, equation 7",
        "Group norm takes mean and m-variance of each sample and group of C / G neighbouring channels, and space.",
        (
            _rival("number of groups taken for their size", grouping="of that size"),
            _rival("interleaved channels", grouping="interleaved"),
            _rival("over the batch as well", axes="channel"),
            _rival("over all groups", axes="sample"),
            _SAMPLE_VARIANCE,
            *_PLACES_OF_EPS,
            *_PARAMETERS,
        ),
        hint="which channels make a group",
        operation="group norm",
    ),
    Claim(
        "relatives.group-norm-gradients",
        "section 4; [1] section 3",
        "dx goes through each group's statistics; dweight and dbias are one a channel, summed over samples and space.",
        (*_SHARES, *_OF_BIAS),
        hint="the two terms that go through the statistics, and the axes of the sums",
        operation="group norm",
        follows=("relatives.group-norm",),
    ),
    Claim(
        "relatives.rms-norm",
        "arXiv 1910.07467, equation 4",
        "RMS norm divides x by the root of its mean square, over all axes that weight has; nothing is subtracted.",
        (
            _rival("centered, as layer norm", center="mean"),
            _rival("divided by the deviation", center="mean", centered=False),
            _rival("over the last axis alone", axes="over the last axis"),
            _rival("over the batch as well", axes="tensor"),
            _SAMPLE_VARIANCE,
            *_PLACES_OF_EPS,
            _rival("weight ignored", affine="no weight"),
            _rival("1 + weight", affine="1 + weight"),
        ),
        hint="the mean square, and what is added to it",
        operation="rms norm",
    ),
    Claim(
        "relatives.rms-norm-gradients",
        "arXiv 1910.07467, section 4",
        "dx goes through the sample's mean square; dweight is the sum of dy * x-hat over the samples.",
        tuple(r for r in _SHARES if r.name not in ("mean term missing", "variance term missing")),
        hint="the term that goes through the mean square",
        operation="rms norm",
        follows=("relatives.rms-norm",),
    ),
    Claim(
        "relatives.weight-norm",
        "section 4; arXiv 1602.07868, equation 2",
        "Weight norm is w = g v / |v|, with one g and one Euclidean norm for each unit, the first axis of v.",
        (
            _rival("one norm for all units", axes="sample"),
            _rival("standardized", center="mean"),
            _rival("divided by the deviation", center="mean", centered=False),
            _rival("g ignored", affine="no weight"),
            _rival("1 + g", affine="1 + weight"),
            _rival("|g|", affine="absolute weight"),
        ),
        hint="the axes of the norm",
        operation="weight norm",
    ),
    Claim(
        "relatives.weight-norm-gradients",
        "section 4; arXiv 1602.07868, equation 3",
        "dg = dw . v / |v| and dv = g / |v| (dw - dg v / |v|): dv is at right angles to v.",
        (
            _rival("norm held constant", input_gradient="statistics constant"),
            _rival("projection with the wrong sign", input_gradient="variance term added"),
            _rival("dg averaged", weight_gradient="averaged"),
        ),
        hint="the term that goes through the norm",
        operation="weight norm",
        follows=("relatives.weight-norm",),
    ),
    Claim(
        "relatives.l1-batch-norm",
        "section 4; arXiv 1802.09769, section 3",
        "L1 batch norm divides by the mean absolute deviation, plus eps; it centers and counts as batch norm does.",
        (
            _rival("standard deviation", deviation="standard"),
            _rival("times sqrt(pi / 2), to stand for the standard deviation", deviation="mean absolute, as sigma"),
            _rival("half the range", deviation="half range"),
            _rival("deviation from the median", center="median"),
            _rival("over the whole tensor", axes="tensor"),
            _rival("per sample and channel", axes="sample and channel"),
            _rival("sqrt(deviation^2 + eps)", eps_rule="inside"),
            _rival("no eps", eps_rule="absent"),
            _rival("max(deviation^2, eps)", eps_rule="larger of both"),
            *_PARAMETERS,
        ),
        hint="the measure of deviation, and how eps is added to it",
        operation="l1 batch norm",
    ),
    Claim(
        "relatives.l1-batch-norm-gradients",
        "section 4; arXiv 1802.09769, section 3",
        "dx goes through the mean and through the deviation, whose derivative is a sign less the mean sign, over m.",
        (*_SHARES, *_OF_BIAS),
        hint="the sign of x - mean, and its mean, which is not 0",
        operation="l1 batch norm",
        follows=("relatives.l1-batch-norm",),
    ),
    Claim(
        "relatives.generalized-batch-norm",
        "section 4; arXiv 1812.03271",
        "Generalized batch norm takes off a chosen statistic S and divides by sqrt(D^2 + eps), D the chosen deviation "
        "from it; with mean and standard deviation it is batch norm.",
        (
            _rival("the mean, whatever is asked", center="mean"),
            _rival("the standard deviation, whatever is asked", deviation="standard"),
            _rival("nothing subtracted", centered=False),
            _rival("over the whole tensor", axes="tensor"),
            _rival("per sample and channel", axes="sample and channel"),
            _rival("D + eps", eps_rule="outside"),
            _rival("no eps", eps_rule="absent"),
            *_PARAMETERS,
        ),
        hint="which statistic and which deviation the arguments choose",
        operation="generalized batch norm",
    ),
    Claim(
        "relatives.generalized-batch-norm-gradients",
        "section 4; arXiv 1812.03271",
        "The gradients go through the chosen statistic and the chosen deviation.",
        (*_SHARES, *_OF_BIAS),
        hint="medians and ranges pass their gradients to the values they are taken from",
        operation="generalized batch norm",
        follows=("relatives.generalized-batch-norm",),
    ),
    Claim(
        "relatives.instance-norm-tracked",
        "section 4; PyTorch's extension of arXiv 1607.08022",
        "Instance norm with running statistics tracks the mean over the samples of each sample's mean and of its "
        "variance with divisor n - 1, n its values; evaluation uses the tracked ones.",
        (
            _rival("momentum weighs the old value", update="flipped"),
            _rival("population variance, divisor n", tracked_variance="m"),
            _rival("variance over the batch", tracked_variance="of the batch"),
            _rival("training normalizes over the batch", axes="channel"),
            _rival("running statistics in training", training_statistics="running before"),
            _rival("a sample's own statistics in evaluation", evaluation_statistics="batch"),
        ),
        hint="what is averaged over the samples, and when",
        operation="instance norm",
        follows=("relatives.instance-norm",),
    ),
    Claim(
        "relatives.half-statistics",
        "section 4",
        "Statistics of half-precision data are summed and kept in float32 or wider, in the relatives as well.",
        _mistakes("half steps", "narrow"),
        undecidable={"float64": _NO_HALF, "float32": _NO_HALF},
        hint="the dtype of mean and variance",
    ),
    Claim(
        "relatives.identities",
        "section 4",
        "One group gives layer norm's x-hat, a group a channel instance norm's, and so does batch norm of one sample.",
        _mistakes(
            "one group is not layer norm",
            "a group a channel is not instance norm",
            "a sample alone is not instance norm",
        ),
        hint="the one of the two whose own claim fails",
        follows=("relatives.layer-norm", "relatives.instance-norm", "relatives.group-norm"),
    ),
    Claim(
        "relatives.synchronized",
        "section 4; [1] algorithms 1 and 2",
        "A batch split over devices is normalized with the statistics of the whole batch; m is the global count.",
        (
            _rival("each device by itself, the first one's state kept", split="each by itself"),
            _rival("each device by itself, their states averaged", split="states averaged"),
            _rival("divisor of one device", split="divisor of one"),
            _rival("variance of one device averaged", split="variances averaged"),
        ),
        hint="what is summed over the devices, and the counts; PyTorch's SyncBatchNorm needs GPUs and is not offered",
        operation="train split",
    ),
    Claim(
        "relatives.synchronized-gradients",
        "section 4; [1] section 3",
        "dx goes through the statistics of the whole batch, on all devices; dweight and dbias are summed over them.",
        (
            _rival("gradient through one device alone", split="gradient through one"),
            _rival("dweight and dbias averaged over devices", split="gradients averaged"),
            _rival("each device by itself", split="each by itself"),
        ),
        hint="the reduction over devices in the backward pass, which has its own two sums",
        operation="train split",
        follows=("relatives.synchronized",),
    ),
    # -- section 5: using it -------------------------------------------------------------------------------------------
    Claim(
        "usage.mode-switch",
        "section 5; [1] algorithm 2",
        "A layer's own switch between training and evaluation changes which statistics are used, and nothing else.",
        _mistakes(
            "evaluation gives training's result",
            "stays in evaluation",
            "evaluation changes a parameter",
            "training changes a parameter",
            "evaluation changes the state",
            "evaluation shows in later training",
        ),
        hint="what the layer does when its mode is set: folded parameters, counters, flags that are not set back",
        follows=("normalize.uses-batch-statistics", "evaluate.running-statistics", "evaluate.frozen"),
    ),
    Claim(
        "usage.one-per-channel",
        "section 5",
        "A layer holds one weight, bias, running mean and running variance a channel, whatever the rank of x.",
        _mistakes("one for all channels", "one a position", "with axes beside the channels"),
        hint="the shapes with which the layer makes its arrays, and those that an update leaves",
        follows=("hygiene.dtype-shape", "hygiene.every-shape"),
    ),
    Claim(
        "usage.larger-batch",
        "section 5; [1] section 3.1",
        "Over all batches from a population, tracked means average to its mean and scatter by its variance over m, and "
        "tracked variances average to its variance.",
        (
            _rival("population variance, divisor m", tracked_variance="m"),
            _rival("sample variance, divisor m - 1", ddof=1),
            _rival("eps mixed in", tracked_variance="plus eps"),
            _rival("over the whole tensor", axes="tensor"),
        ),
        hint="the divisors: m for what normalizes, which averages to (m - 1) / m of the variance; m - 1 if tracked",
        follows=(
            "statistics.per-channel",
            "normalize.population-variance",
            "normalize.eps-inside-root",
            "running.update",
            "running.sample-variance",
            "hygiene.every-shape",
            "precision.within-bound",
        ),
    ),
    Claim(
        "usage.bias-cancels",
        "section 5; [1] section 3.2",
        "A bias before batch norm is useless: BN(W u + b) = BN(W u), no gradient knows b, and its own is 0.",
        (
            _rival("added after the normalization", earlier_bias="added after"),
            _rival("its gradient takes the mean for a constant", earlier_bias="mean held constant"),
            _rival("mean not subtracted", centered=False),
            _rival("statistics held constant in the gradient", input_gradient="statistics constant"),
            _rival("mean term missing in the gradient", input_gradient="no mean term"),
        ),
        hint="fusions of a linear layer or convolution with the normalization behind it",
        operation="linear norm",
        follows=(
            "statistics.per-channel",
            "normalize.centered",
            "gradient.input",
            "hygiene.every-shape",
            "precision.within-bound",
        ),
    ),
    # -- sections 1 and 6: why it works --------------------------------------------------------------------------------
    Claim(
        "why.scale-invariant",
        "[1] section 3.3",
        "BN((a W) u) = BN(W u), with eps in proportion; du stays as it is, and dW becomes dW / a.",
        (
            _rival("not divided by the deviation", scaled=False),
            _rival("sqrt(var) + eps", eps_rule="outside"),
            _rival("var + eps^2", eps_rule="squared"),
        ),
        hint="anything that looks at the size of the weights or of what they give",
        operation="linear norm",
        follows=(
            "normalize.unit-spread",
            "normalize.eps-inside-root",
            "usage.bias-cancels",
            "hygiene.every-shape",
            "precision.within-bound",
        ),
    ),
    Claim(
        "why.gradient-projection",
        "[3] Santurkar et al. 2018, theorem 4.1; [1] section 3",
        "With eps = 0, dx is weight / sigma times dy less its parts along 1 and x-hat: |dx|^2 = weight^2 / sigma^2 "
        "(|dy|^2 - <1, dy>^2 / m - <x-hat, dy>^2 / m), smaller than without batch norm by just these.",
        (
            _rival("statistics held constant", input_gradient="statistics constant"),
            _rival("mean term missing", input_gradient="no mean term"),
            _rival("variance term missing", input_gradient="no variance term"),
            _rival("mean term with the wrong sign", input_gradient="mean term added"),
            _rival("variance term with the wrong sign", input_gradient="variance term added"),
            _rival("m - 1 in the variance term", input_gradient="m - 1"),
        ),
        hint="the two terms that go through the statistics, where eps is 0",
        follows=("gradient.input", "normalize.eps-inside-root", "hygiene.every-shape", "precision.within-bound"),
    ),
    Claim(
        "why.depth",
        "section 6; [2] Bjorck et al. 2018",
        "Through tens of layers the spread of what goes on stays at 1, each layer with statistics of its own; without "
        "batch norm it explodes or dies.",
        _mistakes("the spread drifts", "layers share their state"),
        hint="what is kept for all layers together",
        follows=(
            "statistics.per-channel",
            "normalize.population-variance",
            "normalize.eps-inside-root",
            "affine.defaults",
            "running.update",
            "running.momentum-extremes",
            "running.sample-variance",
            "layer.follows-operation",
            "hygiene.every-shape",
            "precision.within-bound",
        ),
    ),
    Claim(
        "why.trains-faster",
        "sections 1 and 6; [1] section 4.2",
        "At a learning rate at which the plain network stalls, the normalized one trains.",
        _mistakes("the plain network is as good"),
        undecidable=_IN_FLOAT32,
        hint="whether batch norm gets into the network, and its gradients into the step",
        follows=("normalize.uses-batch-statistics", "gradient.input"),
    ),
    Claim(
        "why.matches-dataset",
        "section 2",
        "After training, the tracked statistics are those of the whole training set, as far as an average of batches "
        "can be, and evaluation is as accurate as training mode.",
        _mistakes("tracked statistics are not the data set's", "evaluation is worse than training mode"),
        undecidable=_IN_FLOAT32,
        hint="the update of the state in a network, and which state evaluation reads",
        follows=("running.update", "running.sample-variance", "evaluate.running-statistics"),
    ),
    # -- hygiene -------------------------------------------------------------------------------------------------------
    Claim(
        "hygiene.inputs-unwritten",
        "section 3 (code)",
        "No array handed over is written to: the article's own function must be given a copy, a library must not.",
        _mistakes("writes its input", "writes its parameters", "writes the state it was given"),
        hint="in-place arithmetic",
    ),
    Claim(
        "hygiene.no-alias",
        "good practice",
        "Results share no memory with inputs or state, and later calls leave earlier results alone.",
        _mistakes("result shares memory with an input", "an earlier result changes"),
        hint="reused buffers and views",
    ),
    Claim(
        "hygiene.dtype-shape",
        "good practice",
        "y and dx have x's dtype; the state and the parameters' gradients keep the dtype they came with.",
        _mistakes("y of another dtype", "state of another dtype", "gradient of another dtype"),
        hint="promotion between half and float32, defaults to float64",
    ),
    Claim(
        "hygiene.layouts",
        "good practice",
        "How an array lies in memory changes nothing: strided, transposed, channels-last, repeated by a zero stride.",
        _mistakes("a layout is misread"),
        hint="kernels that assume contiguous memory",
    ),
    Claim(
        "hygiene.every-shape",
        "section 2",
        "Rank, batch size, channels and length change nothing: the formulas hold at every size, as in real layers.",
        _mistakes("wrong in some shapes"),
        hint="the shapes named: the edges of tiles, vector widths and special paths",
    ),
    Claim(
        "hygiene.deterministic",
        "good practice",
        "The same input gives the same output, bit for bit.",
        _mistakes("differs from run to run"),
        hint="uninitialized memory, atomics, random numbers",
    ),
    Claim(
        "hygiene.nan-contained",
        "section 2",
        "NaN or inf stays in its channel, and shows there.",
        _mistakes("spreads to other channels", "is hidden"),
        hint="reductions over more than one channel, and comparisons that drop NaN",
    ),
    Claim(
        "hygiene.empty-batch",
        "section 2",
        "An empty batch is refused, or gives an empty result and leaves the state as it was.",
        _mistakes("the state moves", "gradients of nothing are not 0"),
        hint="0 / 0 in the mean",
    ),
    Claim(
        "hygiene.global-state",
        "good practice",
        "A call leaves NumPy's error state and functions, the random state, the environment and the working directory "
        "as they were.",
        _mistakes(
            "changes NumPy's error state",
            "changes the warning filters",
            "changes the random state",
            "changes the environment",
            "changes the working directory",
            "replaces functions of NumPy",
        ),
        hint="settings made for one's own use, which the whole process then has",
    ),
)

CLAIMS: Mapping[str, Claim] = {claim.id: claim for claim in _ALL}
