"""What a backend does, as facts found from its behaviour alone. What its adapter declares is not looked at.

A fact has a topic ("the tracked variance") and findings: what was found in words, and for which dtypes and ranks. Facts
about formulas name the rules that agree with everything seen on exact data; a backend that agrees with none is unknown
there, which is a finding too. Facts about precision, edges and side effects are the verdicts of the claims on them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from normspec.conformance.cases import pools
from normspec.conformance.cases.arithmetic import formula_grades, shortest
from normspec.conformance.cases.cases import Case
from normspec.conformance.cases.given import given
from normspec.conformance.cases.operations import PARAMETERS, STATE
from normspec.conformance.cases.pools import Pool
from normspec.conformance.claims.claims import Rival
from normspec.conformance.trials.adapters import Backend, Crashed, NotOffered, told
from normspec.conformance.trials.defaults import default_eps, default_momentum, shows_eps
from normspec.conformance.trials.experiments import (
    CUMULATIVE,
    EVALUATE,
    LAYER,
    TRAIN,
    Experiment,
    new_layer,
    run_train,
    state_of,
)
from normspec.conformance.verdicts.evidence import Evidence, agreement
from normspec.conformance.verdicts.explaining import explain as explanation
from normspec.conformance.verdicts.laboratory import Failed, Laboratory, on
from normspec.conformance.verdicts.observed import Observation
from normspec.conformance.verdicts.running import run_check
from normspec.conformance.verdicts.verdicts import Kind, Verdict
from normspec.reference import ARTICLE, Rules

FOUND, UNKNOWN, NOT_OFFERED, REFUSED, CRASHED = "found", "unknown", "not offered", "refused", "crashed"
NO_FORMULA = "agrees with no known formula"


@dataclass(frozen=True)
class Finding:
    """What was found on one topic in one dtype, for x with `ndim` axes (0: for all alike)."""

    value: str
    status: str
    how: str
    dtype: str
    ndim: int = 0


@dataclass(frozen=True)
class Fact:
    """All findings on one topic."""

    topic: str
    findings: tuple[Finding, ...]

    def values(self, dtypes: Iterable[str] | None = None) -> list[tuple[str, list[Finding]]]:
        """The findings in words, each with where it holds; the most common first. `dtypes` leaves out all others."""
        wanted = None if dtypes is None else set(dtypes)
        groups: dict[str, list[Finding]] = {}
        for finding in self.findings:
            if wanted is None or finding.dtype in wanted:
                groups.setdefault(finding.value, []).append(finding)
        return sorted(groups.items(), key=lambda group: -len(group[1]))


@dataclass(frozen=True)
class Conduct:
    """The rules that a backend follows in one dtype and rank: where it normalizes, where it tracks, in evaluation.

    None where no known formula agrees, or nothing was offered.
    """

    training: Rules | None = None
    tracking: Rules | None = None
    evaluation: Rules | None = None


@dataclass
class Conventions:
    """Everything found about one backend."""

    backend: Backend
    dtypes: tuple[str, ...]
    facts: list[Fact] = field(default_factory=list)
    conduct: dict[tuple[str, int], Conduct] = field(default_factory=dict)
    """By dtype and number of axes of x."""
    eps: float | None = None
    """What a layer built without eps uses, None where that is not known."""
    momentum: float | None = None
    """The weight of the new value in a layer built without momentum."""
    start: float | None = None
    """The running variance of a new layer."""

    def fact(self, topic: str) -> Fact:
        """The fact on a topic; one without findings if there is none."""
        return next((fact for fact in self.facts if fact.topic == topic), Fact(topic, ()))


def find(backend: Backend, dtypes: Sequence[str], laboratory: Laboratory) -> Conventions:
    """Question a backend in `dtypes` and gather what it does."""
    return _Survey(backend, tuple(dtypes), laboratory).conventions()


# -- formulas in words ------------------------------------------------------------------------------------------------

_AXES = {
    "channel": "of each channel, over batch and space",
    "tensor": "of the whole tensor",
    "sample and channel": "of each sample and channel",
    "position": "of each position, over the batch",
    "last axis": "of each last index, over all other axes",
    "sample": "of each sample",
    "over the last axis": "over the last axis alone",
}
_STATISTICS = {
    "batch": "the batch's",
    "running before": "the running ones before the update",
    "running after": "the running ones after the update",
}
_DDOF = {0: "biased (divisor m)", 1: "unbiased (divisor m - 1)"}
_EPS = {
    "inside": "under the root: sqrt(var + eps)",
    "outside": "outside the root: sqrt(var) + eps",
    "absent": "ignored: sqrt(var)",
    "larger of both": "a floor of the variance: sqrt(max(var, eps))",
    "both roots": "outside, as a root: sqrt(var) + sqrt(eps)",
    "squared": "squared: sqrt(var + eps^2)",
    "doubled": "twice: sqrt(var + 2 eps)",
    "always 1e-5": "ignored: sqrt(var + 1e-5) whatever eps",
    "at least 1e-5": "under the root, raised to at least 1e-5",
    "0 means 1e-5": "under the root, but 0 is taken for 1e-5",
}
_AFFINE = {
    "scale, then shift": "weight * x-hat + bias",
    "no weight": "x-hat + bias (weight ignored)",
    "no bias": "weight * x-hat (bias ignored)",
    "shift, then scale": "(x-hat + bias) * weight",
    "swapped": "bias * x-hat + weight (swapped)",
    "absolute weight": "|weight| * x-hat + bias",
    "1 + weight": "(1 + weight) * x-hat + bias",
    "weight 0 means 1": "weight * x-hat + bias, weight 0 taken for 1",
    "weight by position": "weight * x-hat + bias, weight by last axis",
    "16 channels": "weight * x-hat + bias, channel c takes the weight of c mod 16",
}
_UPDATE = {
    "article": "the new value: (1 - momentum) * running + momentum * batch",
    "flipped": "the old value: momentum * running + (1 - momentum) * batch",
    "mean flipped": "the old value of the mean, the new one of the variance",
    "variance flipped": "the new value of the mean, the old one of the variance",
    "always 0.1": "nothing: the new value always weighs 0.1",
    "cumulative": "nothing: the average of all batches",
    "zero-debiased": "the new value, zero-debiased",
    "first batch replaces": "the new value; the first batch replaces the start",
    "mean only": "the new mean; the variance never moves",
    "variance only": "the new variance; the mean never moves",
    "twice": "the new value, updated twice a step",
    "one step late": "the value of the batch before",
    "deviations": "the new deviation: deviations are averaged, not variances",
}
_TRACKED = {
    "m - 1": "unbiased (divisor m - 1)",
    "m": "biased (divisor m)",
    "N - 1": "divisor N - 1, N the batch size",
    "N / (N - 1)": "biased times N / (N - 1), N the batch size",
    "plus eps": "unbiased (divisor m - 1), plus eps",
    "mean of samples": "the mean of the samples' variances",
}
_EVALUATION = {
    "running": "the running statistics",
    "batch": "the batch's own statistics",
    "batch mean": "the batch's mean, the running variance",
    "batch variance": "the running mean, the batch's variance",
    "batch when alone": "the running statistics; a single sample's own",
}
_FOLDED = {
    "exactly": "",
    "sign lost": "the sign of the mean lost in the intercept",
    "weight lost": "weight lost in the intercept",
    "eps lost": "eps missing",
}


WORDS: Mapping[str, Mapping[Any, str]] = {
    "axes": _AXES,
    "training_statistics": _STATISTICS,
    "ddof": _DDOF,
    "eps_rule": _EPS,
    "affine": _AFFINE,
    "update": _UPDATE,
    "tracked_variance": _TRACKED,
    "evaluation_statistics": _EVALUATION,
    "folded": _FOLDED,
}
"""The choices of Rules in words, by field."""


def _statistics_in_words(rules: Rules) -> str:
    words = _AXES[rules.axes]
    if rules.training_statistics != "batch":
        words = f"{words}; {_STATISTICS[rules.training_statistics]}"
    return words if rules.counted == "all" else f"{words}; only {rules.counted} of the values"


def _evaluation_in_words(rules: Rules) -> str:
    return "; ".join(w for w in (_EVALUATION[rules.evaluation_statistics], _FOLDED[rules.folded]) if w)


def _normalized_in_words(rules: Rules) -> str:
    if rules.scaled:
        return "(x - mean) / deviation" if rules.centered else "x / deviation"
    return "x - mean" if rules.centered else "x"


_TRAINING_TOPICS: Mapping[str, Callable[[Rules], str]] = {
    "training statistics": _statistics_in_words,
    "variance that normalizes": lambda rules: _DDOF[rules.ddof],
    "eps": lambda rules: _EPS[rules.eps_rule],
    "x-hat": _normalized_in_words,
    "weight and bias": lambda rules: _AFFINE[rules.affine],
}
_TRACKING_TOPICS: Mapping[str, Callable[[Rules], str]] = {
    "momentum weighs": lambda rules: _UPDATE[rules.update],
    "variance that is tracked": lambda rules: _TRACKED[rules.tracked_variance],
    "statistics are tracked of": lambda rules: f"the {rules.tracked_of}",
}
_EVALUATION_TOPICS: Mapping[str, Callable[[Rules], str]] = {
    "evaluation normalizes with": _evaluation_in_words,
    "eps in evaluation": lambda rules: _EPS["absent" if rules.folded == "eps lost" else rules.eps_rule],
    "weight and bias in evaluation": lambda rules: _AFFINE[rules.affine],
}

# -- verdicts in words ------------------------------------------------------------------------------------------------

_GRADE = {
    "stable": "in x's dtype: two passes, or as good",
    "one pass": "in x's dtype: one pass, mean(x^2) - mean(x)^2",
    "narrow sums": "in less than x's dtype",
    "NaN from a negative variance": "in x's dtype: one pass, NaN where rounding makes it negative",
    "wide": "in float32: two passes, or as good",
    "wide, one pass": "in float32: one pass, or as good",
    "parts": "in float32, from rounded parts",
    "half steps": "added up in float32, rounded to x's dtype on the way",
    "narrow": "added up in x's dtype",
}
_GRADIENT_GRADE = {**_GRADE, "wide": "in float32", "wide, one pass": "in float32"}


@dataclass(frozen=True)
class _Told:
    """A fact that a claim decides: the claim, and what to say if it conforms."""

    topic: str
    claim: str
    conforming: str


_GRADIENTS = (
    _Told("dx in training", "gradient.input", "the full derivative, through mean and variance"),
    _Told("dx in evaluation", "gradient.evaluation", "the statistics are constants"),
    _Told("dweight", "gradient.weight", "sum of dy * x-hat"),
    _Told("dbias", "gradient.bias", "sum of dy"),
)
_BEHAVIOUR = (
    _Told("NaN and inf", "hygiene.nan-contained", "stay in their channel, and show"),
    _Told("memory layouts", "hygiene.layouts", "all read alike: contiguous, channels last, transposed, strided"),
    _Told("arrays given", "hygiene.inputs-unwritten", "never written to"),
    _Told("arrays returned", "hygiene.no-alias", "share no memory"),
    _Told("dtypes of results", "hygiene.dtype-shape", "y and dx as x, the others as they came"),
    _Told("run to run", "hygiene.deterministic", "the same bits"),
)


OWN_MOMENTUM: Mapping[str, Callable[[float], float]] = {
    "article": lambda weight: weight,
    "flipped": lambda weight: 1 - weight,
    "twice": lambda weight: 1 - (1 - weight) ** 0.5,
}
"""By update rule, the momentum with which the new value has a weight."""


class _Survey:
    """The questions put to one backend."""

    def __init__(self, backend: Backend, dtypes: tuple[str, ...], laboratory: Laboratory) -> None:
        self.backend, self.dtypes, self.laboratory = backend, dtypes, laboratory
        self.rules: dict[tuple[str, str, int], Rules | None] = {}

    def conventions(self) -> Conventions:
        """All facts, in the order in which they are told."""
        facts = [
            *self._formulas(TRAIN, ("y",), _TRAINING_TOPICS),
            self._by_dtype("eps = 0", self._zero_eps),
            *self._formulas(TRAIN, STATE, _TRACKING_TOPICS),
            self._by_dtype("momentum 0 and 1", self._extremes),
            *self._formulas(EVALUATE, ("y",), _EVALUATION_TOPICS),
            self._by_dtype("state after evaluation", self._frozen),
        ]
        eps = self._by_dtype("default eps", self._default_eps)
        momentum = self._by_dtype("default momentum", self._default_momentum)
        start = self._by_dtype("initial state", self._initial)
        facts = [
            self._offered(),
            eps,
            momentum,
            start,
            *facts,
            self._by_dtype("momentum None", self._no_momentum),
            self._by_dtype("layer, several steps", self._layer),
            self._by_dtype("m = 1 in training", self._single),
            self._by_dtype("empty batch in training", self._empty),
            self._by_dtype("statistics are computed", self._precision),
            *(self._by_dtype(told.topic, self._told(told)) for told in _GRADIENTS),
            self._by_dtype("gradients are computed", self._gradient_precision),
            *(self._by_dtype(told.topic, self._told(told)) for told in _BEHAVIOUR),
        ]
        ranks = {ndim for _, _, ndim in self.rules}
        conduct = {
            (dtype, ndim): Conduct(
                *(self.rules.get((dtype, path, ndim)) for path in ("train y", "state", "evaluate y"))
            )
            for dtype in self.dtypes
            for ndim in sorted(ranks)
        }
        found = Conventions(self.backend, self.dtypes, [fact for fact in facts if fact.findings], conduct)
        found.eps, found.momentum, found.start = _number(eps), _number(momentum), self._start_of_variance()
        return found

    def _by_dtype(self, topic: str, question: Callable[[str], Finding | None]) -> Fact:
        """A fact asked dtype by dtype; None where a dtype has nothing to say."""
        return Fact(topic, tuple(f for dtype in self.dtypes if (f := question(dtype)) is not None))

    # -- formulas -----------------------------------------------------------------------------------------------------

    def _formulas(
        self, experiment: Experiment, quantities: tuple[str, ...], topics: Mapping[str, Callable[[Rules], str]]
    ) -> list[Fact]:
        """Facts about the choices in `topics`, which show in these quantities of an experiment on exact data."""
        findings: dict[str, list[Finding]] = {topic: [] for topic in topics}
        path = "state" if quantities == STATE else f"{experiment.name} y"
        for dtype in self.dtypes:
            outcomes = self._explained(dtype, experiment, quantities)
            offered = {n: o for n, o in outcomes.items() if isinstance(o, Rules) or o.status != NOT_OFFERED}
            for ndim, outcome in (offered or outcomes).items():
                self.rules[dtype, path, ndim] = outcome if isinstance(outcome, Rules) else None
                for topic, words in topics.items():
                    if isinstance(outcome, Rules):
                        how = f"{experiment.name} on {self._seen(dtype, experiment, ndim)} exact cases"
                        findings[topic].append(Finding(words(outcome), FOUND, how, dtype, ndim))
                    else:
                        findings[topic].append(replace(outcome, dtype=dtype, ndim=ndim))
        return [Fact(topic, tuple(found)) for topic, found in findings.items()]

    def _seen(self, dtype: str, experiment: Experiment, ndim: int) -> int:
        outcomes = self.laboratory.traces(self.backend, dtype, on(pools.exact, experiment))
        return sum(isinstance(o, Observation) and len(o.case.shape) == ndim for o in outcomes)

    def _explained(self, dtype: str, experiment: Experiment, quantities: tuple[str, ...]) -> dict[int, Rules | Finding]:
        """By rank the rules that agree with everything seen: the same for all ranks if that is possible."""
        cases = pools.draw(pools.exact, dtype, self.laboratory.profile, self.laboratory.seed)
        outcomes = self.laboratory.traces(self.backend, dtype, on(pools.exact, experiment, *quantities))
        ranks: dict[int, list[Observation | Failed | NotOffered]] = {}
        for case, outcome in zip(cases, outcomes, strict=True):
            ranks.setdefault(len(case.shape), []).append(outcome)
        result: dict[int, Rules | Finding] = {}
        sound: dict[int, tuple[Observation, ...]] = {}
        for ndim, outcome_list in sorted(ranks.items()):
            failed = [o for o in outcome_list if isinstance(o, Failed)]
            seen = tuple(o for o in outcome_list if isinstance(o, Observation))
            if failed:
                words = f"crashed ({_exception(failed[0].error)})"
                result[ndim] = Finding(words, CRASHED, repr(failed[0].case), dtype, ndim)
            elif not seen:
                result[ndim] = Finding(NOT_OFFERED, NOT_OFFERED, str(outcome_list[0]), dtype, ndim)
            else:
                sound[ndim] = seen
        together = tuple(o for seen in sound.values() for o in seen)
        if sound and (rules := explain(dtype, Evidence(experiment, quantities, together))) is not None:
            return result | dict.fromkeys(sound, rules)
        for ndim, seen in sound.items():
            unknown = Finding(f"unknown: {NO_FORMULA}", UNKNOWN, f"{len(seen)} exact cases", dtype, ndim)
            result[ndim] = explain(dtype, Evidence(experiment, quantities, seen)) or unknown
        return result

    def _common(self, dtype: str, path: str) -> Rules | None:
        """The rules of a path in the smallest rank that has any."""
        for (its_dtype, its_path, _), rules in sorted(self.rules.items(), key=lambda item: item[0][2]):
            if (its_dtype, its_path) == (dtype, path) and rules is not None:
                return rules
        return None

    # -- what a formula does elsewhere --------------------------------------------------------------------------------

    def _further(
        self, dtype: str, pool: Pool, experiment: Experiment, quantities: tuple[str, ...], path: str
    ) -> tuple[Rules | None, Finding | None]:
        """The rules by which another pool or experiment is explained, starting from those found already."""
        rules = self._common(dtype, path)
        ranks = {ndim for (d, p, ndim), its in self.rules.items() if (d, p) == (dtype, path) and its == rules}
        outcomes = self.laboratory.traces(self.backend, dtype, on(pool, experiment, *quantities))
        seen = tuple(o for o in outcomes if isinstance(o, Observation) and len(o.case.shape) in ranks)
        how = f"{experiment.name} on {len(seen)} cases ({pool.name})"
        failed = [o for o in outcomes if isinstance(o, Failed)]
        if failed and (not seen or not all(o.error.refusal for o in failed)):
            status = REFUSED if all(o.error.refusal for o in failed) else CRASHED
            return None, Finding(f"{status} ({_exception(failed[0].error)})", status, repr(failed[0].case), dtype)
        if not seen:
            return None, Finding(NOT_OFFERED, NOT_OFFERED, str(outcomes[0]), dtype)
        if rules is None:
            return None, Finding(f"unknown: {NO_FORMULA}", UNKNOWN, how, dtype)
        found = explain(dtype, Evidence(experiment, quantities, seen), rules)
        if found is None:
            return None, Finding(f"unknown: {NO_FORMULA}", UNKNOWN, how, dtype)
        return found, Finding("", FOUND, how, dtype)

    def _zero_eps(self, dtype: str) -> Finding | None:
        rules, finding = self._further(dtype, pools.zero_eps, TRAIN, ("y",), "train y")
        if rules is None or finding is None:
            return finding
        small = rules.eps_rule in ("0 means 1e-5", "at least 1e-5", "always 1e-5")
        return replace(finding, value="taken for 1e-5" if small else "taken as 0")

    def _extremes(self, dtype: str) -> Finding | None:
        """Whether momentum 0 and 1 are numbers like any other."""
        words, last = [], None
        for momentum, pool in ((0, pools.keeps), (1, pools.takes)):
            rules, finding = self._further(dtype, pool, TRAIN, STATE, "state")
            if rules is None or finding is None:
                return finding
            if rules != self._common(dtype, "state"):
                words.append(f"{momentum} is taken for 0.1")
            last = finding
        return last and replace(last, value=" and ".join(words) or "as given")

    def _no_momentum(self, dtype: str) -> Finding | None:
        rules, finding = self._further(dtype, pools.cumulative, CUMULATIVE, STATE, "state")
        if rules is None or finding is None:
            return finding
        fixed = rules.no_momentum == "means 0.1" or rules.update == "always 0.1"
        if rules.update in ("article", "flipped", "always 0.1"):
            return replace(finding, value="taken for 0.1" if fixed else "all batches weigh the same")
        return replace(finding, value=_UPDATE[rules.update])

    def _frozen(self, dtype: str) -> Finding | None:
        rules, finding = self._further(dtype, pools.exact, EVALUATE, STATE, "evaluate y")
        if rules is None or finding is None:
            return finding
        return replace(finding, value="as before" if rules.evaluation_state == "frozen" else "moved by evaluation")

    def _layer(self, dtype: str) -> Finding | None:
        base = self._common(dtype, "state")
        rules, finding = self._further(dtype, pools.layers, LAYER, STATE, "state")
        if rules is None or finding is None or base is None:
            return finding
        if rules.update == base.update and rules.tracked_variance == base.tracked_variance:
            return replace(finding, value="every step as one step alone")
        return replace(finding, value=f"{_UPDATE[rules.update]}; {_TRACKED[rules.tracked_variance]}")

    # -- defaults -----------------------------------------------------------------------------------------------------

    def _default_eps(self, dtype: str) -> Finding | None:
        """eps from y of a layer built without it, by the rule that the backend follows for eps."""
        rules = self._common(dtype, "train y")
        if rules is None:
            return Finding("unknown: what training does is", UNKNOWN, "", dtype)
        if not shows_eps(rules):
            return Finding("without effect", FOUND, "eps never shows in y", dtype)
        how = f"y of a new layer; eps {_EPS[rules.eps_rule]}"
        try:
            eps, reach, agrees = default_eps(self.backend, dtype, rules)
        except (NotOffered, Crashed) as error:
            return _failure(error, dtype)
        if not agrees:
            return Finding("unknown: does not show in y of a new layer", UNKNOWN, how, dtype)
        return Finding(shortest(eps, reach) if eps else f"0, or below {reach:.0e}", FOUND, how, dtype)

    def _default_momentum(self, dtype: str) -> Finding | None:
        """The weight of the new value, in the first and in the second batch, from batches of mean 1 and 5."""
        try:
            first, second, reach = default_momentum(self.backend, dtype)
        except (NotOffered, Crashed) as error:
            return _failure(error, dtype)
        rules = self._common(dtype, "state")
        how = "running_mean of a new layer after batches of mean 1 and 5"
        if rules is None or (rules.axes, rules.counted, rules.tracked_of) != ("channel", "all", "input"):
            return Finding("unknown: what is tracked is not the batch's mean", UNKNOWN, how, dtype)
        if not abs(first - second) <= 2 * reach:
            words = f"the new value weighs {shortest(first, reach)} at first, then {shortest(second, 2 * reach)}"
            return Finding(words, FOUND, how, dtype)
        words = f"the new value weighs {shortest(first, reach)}"
        if rules.update in OWN_MOMENTUM and rules.update != "article":
            own = OWN_MOMENTUM[rules.update](float(shortest(first, reach)))
            words = f"{words} (momentum = {own:g})"
        return Finding(words, FOUND, how, dtype)

    def _initial(self, dtype: str) -> Finding | None:
        case = Case(dtype=dtype, shape=(4, 3), data="exact 3")
        names = (*PARAMETERS, *STATE)
        try:
            state = state_of(new_layer(self.backend, case), 3, names)
        except (NotOffered, Crashed) as error:
            return _failure(error, dtype)
        words = []
        for name in names:
            values = sorted({float(v) for v in state[name].astype(np.float64)})
            words.append(f"{name} {' or '.join(f'{v:g}' for v in values)}")
        return Finding(", ".join(words), FOUND, "a new layer", dtype)

    def _start_of_variance(self) -> float | None:
        try:
            case = Case(dtype=self.dtypes[0], shape=(4, 3), data="exact 3")
            start = state_of(new_layer(self.backend, case), 3)["running_var"].astype(np.float64)
        except (NotOffered, Crashed):
            return None
        return float(start[0]) if (start == start[0]).all() else None

    # -- edges --------------------------------------------------------------------------------------------------------

    def _single(self, dtype: str) -> Finding | None:
        return self._edge(dtype, pools.single)

    def _empty(self, dtype: str) -> Finding | None:
        return self._edge(dtype, pools.empty)

    def _edge(self, dtype: str, pool: Pool) -> Finding | None:
        """What one training step makes of input that a backend may refuse."""
        words: dict[str, None] = {}
        status, cases = FOUND, pools.draw(pool, dtype, self.laboratory.profile, self.laboratory.seed)
        for case in cases:
            try:
                result = run_train(self.backend, case, given(case))
            except NotOffered:
                continue
            except Crashed as error:
                words[f"refused ({_exception(error)})" if error.refusal else f"crashed: {error}"] = None
                status = REFUSED if error.refusal else CRASHED
                continue
            broken = [n for n in STATE if not np.isfinite(result[n].astype(np.float64)).all()]
            moved = any((result[n].astype(np.float64) != getattr(given(case), n)).any() for n in STATE)
            y = "" if np.isfinite(result["y"].astype(np.float64)).all() else "y is not finite, "
            state = f"{' and '.join(broken)} NaN or inf" if broken else "state moves" if moved else "state stays"
            words[f"accepted: {y}{state}"] = None
        how = f"{len(cases)} cases ({pool.name})"
        if not words:
            return Finding(NOT_OFFERED, NOT_OFFERED, how, dtype)
        return Finding("; ".join(words), status if len(words) == 1 else FOUND, how, dtype)

    # -- what claims decide -------------------------------------------------------------------------------------------

    def _told(self, told: _Told) -> Callable[[str], Finding | None]:
        """A question that a claim's verdict answers."""

        def question(dtype: str) -> Finding | None:
            verdict = run_check(told.claim, self.backend, dtype, self.laboratory)
            words = told.conforming
            if verdict.kind == Kind.DEVIATES:
                detail = verdict.words if verdict.words != verdict.rival and "rule:" not in verdict.words else ""
                words = f"{verdict.rival}: {detail}" if detail else verdict.rival
            return _of_verdict(told.claim, verdict, words, dtype)

        return question

    def _precision(self, dtype: str) -> Finding | None:
        claim = "precision.cancellation" if dtype in ("float64", "float32") else "precision.half-statistics"
        return self._graded(claim, dtype)

    def _gradient_precision(self, dtype: str) -> Finding | None:
        half = dtype not in ("float64", "float32")
        return self._graded("precision.half-gradients", dtype, _GRADIENT_GRADE) if half else None

    def _graded(self, claim: str, dtype: str, words: Mapping[str, str] = _GRADE) -> Finding:
        verdict = run_check(claim, self.backend, dtype, self.laboratory)
        grade = verdict.found or verdict.rival
        return _of_verdict(claim, verdict, words.get(grade, grade), dtype)

    def _offered(self) -> Fact:
        """The ranks of x that a training step accepts."""
        findings = []
        for dtype in self.dtypes:
            outcomes = self.laboratory.traces(self.backend, dtype, on(pools.exact, TRAIN))
            ranks = sorted({len(o.case.shape) for o in outcomes if isinstance(o, Observation)})
            how = f"train on {len(outcomes)} exact cases"
            shapes = ", ".join(_SHAPES[ndim] for ndim in ranks)
            failed = [o for o in outcomes if isinstance(o, Failed)]
            if failed:
                words = f"{shapes}; " if shapes else ""
                findings.append(Finding(f"{words}crashed: {failed[0].error}", CRASHED, repr(failed[0].case), dtype))
            else:
                findings.append(Finding(shapes or NOT_OFFERED, FOUND if ranks else NOT_OFFERED, how, dtype))
        return Fact("x", tuple(findings))


_SHAPES = {2: "(N, C)", 3: "(N, C, L)", 4: "(N, C, H, W)", 5: "(N, C, D, H, W)"}


def explain(dtype: str, evidence: Evidence, base: Rules = ARTICLE) -> Rules | None:
    """The rules that agree with the evidence: `base`, or `base` with some rivals' choices; None if none are known."""
    if not any(
        np.isfinite(array.astype(np.float64)).any()
        for observation in evidence.observations
        for name, array in observation.trace.items()
        if name.partition("@")[0] in evidence.quantities
    ):
        return None  # what is nowhere a number tells nothing
    changed = tuple((name, value) for name, value in vars(base).items() if value != getattr(ARTICLE, name))
    evidence = replace(evidence, beside=(Rival("found before", changed),) if changed else ())

    def agrees(rivals: Sequence[Rival]) -> bool:
        seen = (agreement([evidence], rivals, arithmetic) for arithmetic in formula_grades(dtype))
        return any(one.holds and one.decided for one in seen)

    rivals = () if agrees(()) else explanation(dtype, evidence) or ()
    return reduce(lambda rules, rival: rival.rules(rules), rivals, base) if agrees(rivals) else None


def _failure(error: NotOffered | Crashed, dtype: str) -> Finding:
    if isinstance(error, NotOffered):
        return Finding(NOT_OFFERED, NOT_OFFERED, str(error), dtype)
    return Finding(f"crashed: {error}", CRASHED, told(error), dtype)


def _exception(error: Crashed) -> str:
    """The name of the exception that was raised; the whole message where none was."""
    raised = re.search(r" raised (\w+)", str(error))
    return raised[1] if raised else str(error)


def _of_verdict(claim: str, verdict: Verdict, words: str, dtype: str) -> Finding:
    """A finding from the verdict on a claim; `words` for what conforms or follows a named rival."""
    how = f"{claim} on {verdict.cases} cases"
    if verdict.kind == Kind.CONFORMS and verdict.found == "refuses":
        return Finding("refused", REFUSED, how, dtype)
    if verdict.kind in (Kind.CONFORMS, Kind.DEVIATES):
        return Finding(words, FOUND, how, dtype)
    if verdict.kind == Kind.NOT_OFFERED:
        return Finding(NOT_OFFERED, NOT_OFFERED, verdict.words, dtype)
    if verdict.kind == Kind.INCONCLUSIVE and verdict.left:
        more = f" and {len(verdict.left) - 2} more" if len(verdict.left) > 2 else ""
        return Finding(f"{words}; not told from: {', '.join(verdict.left[:2])}{more}", FOUND, how, dtype)
    if verdict.kind in (Kind.FAILS, Kind.INCONCLUSIVE):
        return Finding(f"unknown: {verdict.words}", UNKNOWN, how, dtype)
    return Finding(f"{verdict.kind}: {verdict.words}", CRASHED, how, dtype)


def _number(fact: Fact) -> float | None:
    """The number at the end of a fact's first finding; None where it has none, or more than one."""
    for finding in fact.findings:
        if finding.status == FOUND and "then" not in finding.value:
            word = finding.value.partition(" (")[0].split()[-1]
            try:
                return float(word)
            except ValueError:
                return None
    return None


def shared(conventions: Sequence[Conventions]) -> Iterator[str]:
    """The dtypes in which all were questioned."""
    for dtype in conventions[0].dtypes:
        if all(dtype in other.dtypes for other in conventions):
            yield dtype
