"""A small network trained on real data, plain and with batch norm, and the two claims that it decides.

The data are scikit-learn's digits: 1797 images of 8 x 8, of which 14 batches of 128 are used. Everything is trained by
the backend's own layers, gradients and optimizer; what is judged here is counted or derived:

- Which of two classifiers of the same images is the better one is McNemar's exact test. Where both are right, or both
  wrong, an image says nothing; were they equally good, each of the others would be for one or for the other like the
  toss of a coin.
- A tracked statistic is an average of batch statistics with known weights. With the parameters held, and passed over
  until the start weighs less than a roundoff, it is the average of the network's own batches, (1 - momentum)^k
  momentum for the batch k steps ago, and so it must lie as far from the statistic of the whole set as that average
  does: each channel is held against it within the bound that is derived for the update, step by step. The set's own
  mean is that of the same batches with equal weights; its variance is made of theirs and of the spread of their means.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normspec.conformance.cases.arithmetic import coarsest
from normspec.conformance.cases.cases import Array, Inputs
from normspec.conformance.predictions import prediction
from normspec.conformance.predictions.prediction import Expected
from normspec.conformance.trials.adapters import Backend, NotOffered, call
from normspec.conformance.trials.experiments import offered
from normspec.conformance.verdicts.laboratory import Laboratory
from normspec.conformance.verdicts.verdicts import Kind, Verdict
from normspec.reference import ARTICLE

BATCH, BATCHES = 128, 14
DEPTH, WIDTH, CLASSES = 8, 32, 10
EPOCHS = 10
RATE, MOMENTUM, EPS = 0.1, 0.1, 1e-5
SETTLING = 12
"""Passes with the parameters held: 168 steps leave the start a weight of 0.9^168 = 2e-8, below float32's roundoff."""
CHANCE = 1e-6
"""How improbable a difference must be for two equal classifiers before it counts as one. Runs are repeated, by many
people on many versions: at this level none of a hundred thousand is expected to mistake chance for a difference. 20
images of 1792 can be enough."""
PLAIN, NORMALIZED = "plain", "with batch norm"


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """What `train_network` returns, see `backends.contract.Training`; float32 throughout."""

    losses: NDArray[Any]
    in_training: NDArray[Any]
    given: NDArray[Any]
    means: NDArray[Any]
    variances: NDArray[Any]
    in_evaluation: NDArray[Any]


@cache
def digits() -> tuple[Array, NDArray[np.int64]]:
    """Images (1797, 64) in steps of 1/16 from 0 to 1, and their labels. Raises NotOffered without scikit-learn."""
    try:
        from sklearn.datasets import load_digits  # takes its second: only where a claim needs it
    except ImportError:
        raise NotOffered("scikit-learn is not installed: pip install 'normspec[digits]'") from None
    images, labels = load_digits(return_X_y=True)
    return images / 16, labels.astype(np.int64)


def samples(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The training set (1792, 64) and its labels, in an order drawn once. Raises NotOffered."""
    images, labels = digits()
    chosen = np.random.default_rng(seed).permutation(len(images))[: BATCH * BATCHES]
    return images[chosen].astype(np.float32), labels[chosen]


def network(laboratory: Laboratory, backend: Backend, *, normalized: bool) -> Network:
    """The backend's network, trained once for all claims that ask. Raises NotOffered or Crashed."""
    return laboratory.once(
        (backend.spec, "network", normalized), lambda: _trained(backend, laboratory.seed, normalized)
    )


def _trained(backend: Backend, seed: int, normalized: bool) -> Network:
    function = offered(backend, "train_network")
    x, labels = samples(seed)
    layers = DEPTH if normalized else 0
    shapes: dict[str, tuple[int, ...]] = {
        "losses": (EPOCHS * BATCHES,),
        "in_training": (len(x), CLASSES),
        "given": (layers, len(x), WIDTH),
        "means": (2, layers, WIDTH),
        "variances": (2, layers, WIDTH),
        "in_evaluation": (len(x), CLASSES),
    }
    results = call(
        function, list(shapes), list(shapes.values()), x, labels,
        depth=DEPTH, width=WIDTH, normalized=normalized, learning_rate=RATE, momentum=MOMENTUM, eps=EPS,
        batch=BATCH, epochs=EPOCHS, settling=SETTLING, seed=seed,
    )  # fmt: skip
    return Network(**dict(zip(shapes, results, strict=True)))


# -- trained or stalled -----------------------------------------------------------------------------------------------


def chance(wins: int, losses: int) -> float:
    """The probability that a fair coin gives at least so many wins in so many tosses: McNemar's test, one-sided."""
    tosses = wins + losses
    return float(Fraction(sum(comb(tosses, k) for k in range(wins, tosses + 1)), 2**tosses))


def _tosses(hits: NDArray[np.bool_]) -> tuple[int, int]:
    return int(hits.sum()), int((~hits).sum())


def better(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """`chance` of `one` being right where `other` is wrong as often as seen, were they equally good."""
    return chance(int((one & ~other).sum()), int((other & ~one).sum()))


def right(logits: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where the largest logit is the label's; what is not finite is right nowhere."""
    hits: NDArray[np.bool_] = (logits.argmax(1) == labels) & np.isfinite(logits.astype(np.float64)).all(1)
    return hits


def trains_faster(backend: Backend, laboratory: Laboratory) -> Verdict:
    """Whether the network with batch norm is the better one after the same steps. Raises NotOffered or Crashed.

    And the plain one must stall, being wrong on most images, where the other is right on most; or nothing is decided.
    """
    networks = [network(laboratory, backend, normalized=normalized) for normalized in (False, True)]
    labels = samples(laboratory.seed)[1]
    plain, normalized = (right(net.in_training, labels) for net in networks)
    probability = better(normalized, plain)
    decided = chance(*_tosses(~plain)) < CHANCE and chance(*_tosses(normalized)) < CHANCE
    held = probability < CHANCE
    words = (
        f"after {EPOCHS * BATCHES} steps at rate {RATE:g} the plain network is right on {plain.sum()} of {len(labels)} "
        f"images, the one with batch norm on {normalized.sum()}; equally good ones differ so with a probability of "
        + (f"{probability:.1g}" if probability else "less than 1e-300")
    )
    return Verdict(
        kind=(Kind.CONFORMS if decided else Kind.INCONCLUSIVE) if held else Kind.DEVIATES,
        rival="" if held else "the plain network is as good",
        words=words,
        found=f"plain {_percent(plain)}, normalized {_percent(normalized)}" if held and decided else "",
        cases=1,
        curves={
            name: tuple(round(float(loss), 5) for loss in net.losses)
            for name, net in zip((PLAIN, NORMALIZED), networks, strict=True)
        },
    )


def _percent(hits: NDArray[np.bool_]) -> str:
    return f"{100 * hits.mean():.0f} %"


# -- the statistics of the whole set -----------------------------------------------------------------------------------


def settled(given: Array, mean: Array, var: Array) -> tuple[Expected, Expected]:
    """Running mean and variance, (C,) each, after `SETTLING` passes over the batches of `given`, (N, C), from a start.

    The batches' mean and sample variance are averaged as the update says; the bound is carried from step to step.
    """
    count = given.shape[1]
    carried: tuple[Array, Array] = np.zeros(count), np.zeros(count)
    arithmetic = coarsest("float32")  # how exactly a variance is computed is for the claims on precision
    for step in range(SETTLING * BATCHES):
        x = given[step % BATCHES * BATCH :][:BATCH]
        inputs = Inputs(x, np.ones(count), np.zeros(count), mean, var, x)
        told = prediction.train(inputs, ARTICLE, arithmetic, eps=EPS, momentum=MOMENTUM, carried=carried)
        (mean, of_mean), (var, of_var) = told["running_mean"], told["running_var"]
        carried = of_mean, of_var
    return Expected(mean, carried[0]), Expected(var, carried[1])


def _of_bound(got: Array, expected: Expected) -> float:
    """The largest error over its bound; NaN where anything is not finite: real data leave nothing undecided."""
    ratio = abs(got - expected.value) / expected.bound
    return float(np.where(np.isfinite(expected.bound), ratio, np.nan).max())


def distance(mean: Array, var: Array, given: Array) -> tuple[float, float]:
    """How far statistics are from those of all samples of `given`, (N, C), in the channel that is furthest.

    Of the mean in standard deviations, of the sample variance as a share of it; channels that do not vary are left out.
    """
    of_set, spread = given.var(0, ddof=1), given.std(0, ddof=1)
    varying = spread > 0
    off = abs(mean - given.mean(0))[varying] / spread[varying], abs(var - of_set)[varying] / of_set[varying]
    return float(off[0].max(initial=0)), float(off[1].max(initial=0))


@np.errstate(all="ignore")
def matches_dataset(backend: Backend, laboratory: Laboratory) -> Verdict:
    """Whether the settled statistics are the average of the batches', and serve evaluation. Raises NotOffered, Crashed.

    Each tracked mean and variance is where the average of the batches' statistics is, within the bound, and so as far
    from that of the whole set as this average is, which the verdict tells; and evaluation, which uses them, is not
    worse than training mode, which uses each batch's own.
    """
    net = network(laboratory, backend, normalized=True)
    given = np.concatenate(net.given.astype(np.float64), axis=1)
    (start, mean), (start_var, var) = (a.astype(np.float64).reshape(2, -1) for a in (net.means, net.variances))
    told = settled(given, start, start_var)
    names = ("running_mean", "running_var")
    worst = {name: _of_bound(e, t) for name, e, t in zip(names, (mean, var), told, strict=True)}
    off, average = distance(mean, var, given), distance(told[0].value, told[1].value, given)
    labels = samples(laboratory.seed)[1]
    training, evaluation = right(net.in_training, labels), right(net.in_evaluation, labels)
    rival = ""
    if not all(ratio <= 1 for ratio in worst.values()):  # NaN is none
        rival = "tracked statistics are not the data set's"
    elif better(training, evaluation) < CHANCE:
        rival = "evaluation is worse than training mode"
    words = (
        f"the tracked means are up to {off[0]:.2g} standard deviations from the whole set's and the variances "
        f"{100 * off[1]:.2g} %, where the average of the batches is {average[0]:.2g} and {100 * average[1]:.2g} %; "
        f"evaluation is right on {evaluation.sum()} of {len(labels)} images, training mode on {training.sum()}"
    )
    return Verdict(
        kind=Kind.DEVIATES if rival else Kind.CONFORMS,
        rival=rival,
        words=words,
        found=f"mean off {off[0]:.2g} sd, evaluation {_percent(evaluation)}",
        cases=1,
        worst=worst,
    )
