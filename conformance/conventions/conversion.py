"""How one backend is made to do what another does: arithmetic on hyperparameters, parameters and state.

A conversion from A to B is a list of steps, each a line of Python. It goes by way of the article's conventions: what A
does is put in the article's terms, and that in B's; where both agree nothing is done. The lines make up functions that
a person can paste; the same functions are executed to verify them, with B's results held against A's.

- `from_a_to_b_training` gives what B's training step is called with, to do what A's does on m values a channel;
- `state_of_b_as_a` takes back the running statistics that it returns;
- `from_a_to_b_evaluation` gives what B's evaluation is called with;
- `from_a_to_b_trained` gives the state that B would have tracked, from its own start, in `steps` batches of m values.

Where two of them are the same, or do nothing, there are fewer.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normspec.conformance.cases import pools
from normspec.conformance.cases.arithmetic import REFERENCE, Arithmetic, formula_grades, parameter_dtype, shortest
from normspec.conformance.cases.cases import Case, Inputs, rounded
from normspec.conformance.cases.given import given
from normspec.conformance.cases.operations import PARAMETERS, STATE
from normspec.conformance.conventions.conventions import OWN_MOMENTUM, WORDS, Conduct, Conventions, shared
from normspec.conformance.predictions import prediction
from normspec.conformance.predictions.mismatch import ratios
from normspec.conformance.predictions.prediction import Expected
from normspec.conformance.trials.adapters import Crashed, NotOffered
from normspec.conformance.trials.experiments import run_evaluate, run_train
from normspec.conformance.verdicts.laboratory import Laboratory
from normspec.reference import Rules, statistics
from normspec.reference.batch_norm import scale_and_shift, tracked
from normspec.reference.places import Whole

Array = NDArray[np.float64]


class NotConvertible(Exception):
    """No arithmetic on hyperparameters, parameters and state does it; the message says why."""


@dataclass(frozen=True)
class Step:
    """One line of a conversion, and why it is there."""

    line: str
    why: str


_Steps = list[Step]

# -- the steps: from a convention to the article's, and back ----------------------------------------------------------

_AFFINE_TO = {
    "no weight": "weight = np.ones_like(weight)",
    "no bias": "bias = np.zeros_like(bias)",
    "shift, then scale": "bias = weight * bias",
    "swapped": "weight, bias = bias, weight",
    "absolute weight": "weight = abs(weight)",
    "1 + weight": "weight = 1 + weight",
    "weight 0 means 1": "weight = np.where(weight == 0, 1, weight)",
    "16 channels": "weight = weight[np.arange(weight.size) % 16]",
}
_AFFINE_FROM = {
    "shift, then scale": "bias = bias / weight",
    "swapped": "weight, bias = bias, weight",
    "absolute weight": "",
    "1 + weight": "weight = weight - 1",
    "weight 0 means 1": "",
}
_AFFINE_NEEDS = {
    "shift, then scale": "(weight != 0).all()",
    "absolute weight": "(weight >= 0).all()",
    "weight 0 means 1": "(weight != 0).all()",
}
_EPS_TO = {
    "absent": "eps = 0.0",
    "both roots": "eps = eps**0.5",
    "squared": "eps = eps**2",
    "doubled": "eps = 2 * eps",
    "always 1e-5": "eps = 1e-5",
    "at least 1e-5": "eps = max(eps, 1e-5)",
    "0 means 1e-5": "eps = eps or 1e-5",
}
_EPS_FROM = {
    "both roots": "eps = eps**2",
    "squared": "eps = eps**0.5",
    "doubled": "eps = eps / 2",
    "at least 1e-5": "",
    "0 means 1e-5": "",
}
_EPS_NEEDS = {"at least 1e-5": "eps >= 1e-5", "0 means 1e-5": "eps != 0"}
_EPS_FAMILY = {"outside": "beside the root", "both roots": "beside the root", "larger of both": "as a floor"}
_MOMENTUM_TO = {
    "flipped": "momentum = 1 - momentum",
    "always 0.1": "momentum = 0.1",
    "twice": "momentum = 1 - (1 - momentum) ** 2",
}
_MOMENTUM_FROM = {"flipped": "momentum = 1 - momentum", "twice": "momentum = 1 - (1 - momentum) ** 0.5"}
_WEIGHED = {
    "article": "momentum weighs the new value",
    "flipped": "momentum weighs the old value",
    "always 0.1": "momentum is fixed at 0.1",
    "twice": "the state is updated twice a step",
}
# The tracked variance over the m-variance, for a batch of n samples and m values a channel.
_TRACKED_FACTOR = {
    "m - 1": ("m", "(m - 1)"),
    "m": ("", ""),
    "N - 1": ("m", "(n - 1)"),
    "N / (N - 1)": ("n", "(n - 1)"),
    "plus eps": ("m", "(m - 1)"),
}
_TRACKED_NAME = {
    "m - 1": "divisor m - 1",
    "m": "divisor m",
    "N - 1": "divisor n - 1, n the batch size",
    "N / (N - 1)": "divisor m times n / (n - 1), n the batch size",
    "plus eps": "divisor m - 1, plus eps",
}
_ROOT = {
    "inside": "(running_var + eps) ** 0.5",
    "outside": "(running_var**0.5 + eps)",
    "absent": "running_var**0.5",
    "larger of both": "np.maximum(running_var, eps) ** 0.5",
    "both roots": "(running_var**0.5 + eps**0.5)",
    "squared": "(running_var + eps**2) ** 0.5",
    "doubled": "(running_var + 2 * eps) ** 0.5",
    "always 1e-5": "(running_var + 1e-5) ** 0.5",
    "at least 1e-5": "(running_var + max(eps, 1e-5)) ** 0.5",
    "0 means 1e-5": "(running_var + (eps or 1e-5)) ** 0.5",
}
"""The deviation that evaluation divides by."""


def _same(a: Rules, b: Rules, *names: str) -> None:
    """Fields that no arithmetic makes up for must be equal."""
    for name in names:
        if getattr(a, name) != getattr(b, name):
            raise _differing(a, b, name)


def _differing(a: Rules, b: Rules, name: str) -> NotConvertible:
    values = (getattr(rules, name) for rules in (a, b))
    words = [WORDS.get(name, {}).get(value) or {True: "yes", False: "no"}.get(value, str(value)) for value in values]
    return NotConvertible(f"{_FIELD[name]}: {words[0]} in A, {words[1]} in B")


_FIELD = {
    "axes": "what the statistics are taken over",
    "counted": "which values are counted",
    "training_statistics": "what training normalizes with",
    "centered": "whether the mean is subtracted",
    "scaled": "whether the deviation is divided by",
    "evaluation_statistics": "what evaluation normalizes with",
    "folded": "the folded form of evaluation",
    "tracked_of": "what is tracked",
    "affine": "weight and bias",
    "update": "what momentum weighs",
    "tracked_variance": "the variance that is tracked",
}


def _affine(a: Rules, b: Rules, between: Sequence[Step] = ()) -> _Steps:
    """weight and bias in B's terms; `between` are lines in the article's."""
    if a.affine == b.affine and not between:
        return []
    if b.affine != "scale, then shift" and b.affine not in _AFFINE_FROM:
        raise _differing(a, b, "affine")
    if a.affine == "weight by position":
        raise NotConvertible("weight and bias: A's weight goes by the last axis, B's by channel")
    steps = [Step(_AFFINE_TO[a.affine], f"A: {WORDS['affine'][a.affine]}")] if a.affine in _AFFINE_TO else []
    steps += between
    if needs := _AFFINE_NEEDS.get(b.affine):
        steps.append(Step(f"assert {needs}", f"B: {WORDS['affine'][b.affine]}"))
    if line := _AFFINE_FROM.get(b.affine):
        steps.append(Step(line, f"B: {WORDS['affine'][b.affine]}"))
    return steps


def _eps(a: Rules, b: Rules, factor: str = "") -> _Steps:
    """eps in B's terms; `factor` is what an eps under the root is multiplied by in between."""
    if a.eps_rule == b.eps_rule and not factor:
        return []
    family = tuple(_EPS_FAMILY.get(rules.eps_rule, "under the root") for rules in (a, b))
    if a.eps_rule == "absent" and b.eps_rule not in ("always 1e-5", "at least 1e-5", "0 means 1e-5"):
        return [] if b.eps_rule == "absent" else [Step("eps = 0.0", "A has no eps")]
    if family[0] != family[1]:
        raise NotConvertible(f"eps: {family[0]} in A, {family[1]} in B; no eps makes them equal for every variance")
    if b.eps_rule in ("absent", "always 1e-5") and not a.eps_rule == b.eps_rule == "absent":
        raise NotConvertible(f"eps: B's is {WORDS['eps_rule'][b.eps_rule]}")
    steps = [Step(_EPS_TO[a.eps_rule], f"A's eps: {WORDS['eps_rule'][a.eps_rule]}")] if a.eps_rule in _EPS_TO else []
    if factor:
        power = f"({factor}) ** 0.5" if family[0] == "beside the root" else f"({factor})"
        steps.append(Step(f"eps = eps * {power}", "eps is added to another variance"))
    if needs := _EPS_NEEDS.get(b.eps_rule):
        steps.append(Step(f"assert {needs}", f"B's eps: {WORDS['eps_rule'][b.eps_rule]}"))
    if line := _EPS_FROM.get(b.eps_rule):
        steps.append(Step(line, f"B's eps: {WORDS['eps_rule'][b.eps_rule]}"))
    return steps


def _normalization(a: Rules, b: Rules) -> tuple[_Steps, _Steps]:
    """weight and bias, and eps, with which B's training step gives A's y."""
    _same(a, b, "axes", "counted", "training_statistics", "centered", "scaled")
    if a.ddof == b.ddof or not a.scaled:
        return _affine(a, b), _eps(a, b)
    # With c = m / (m - 1): (x - mean) / sqrt(c var + eps) = (x - mean) / sqrt(var + eps / c) / sqrt(c).
    factor = "(m - 1) / m" if a.ddof else "m / (m - 1)"
    words = ("m - 1", "m") if a.ddof else ("m", "m - 1")
    between = Step(f"weight = weight * ({factor}) ** 0.5", "A normalizes with divisor {}, B with {}".format(*words))
    return _affine(a, b, [between]), _eps(a, b, factor)


def _momentum(a: Rules, b: Rules) -> _Steps:
    if a.update == b.update:
        return []
    if a.update not in _WEIGHED or b.update not in _WEIGHED:
        raise _differing(a, b, "update")
    if b.update == "always 0.1":
        raise NotConvertible("momentum: B's is fixed at 0.1, whatever is asked for")
    why = f"A: {_WEIGHED[a.update]}; B: {_WEIGHED[b.update]}"
    lines = (_MOMENTUM_TO.get(a.update), _MOMENTUM_FROM.get(b.update))
    return [Step(line, why) for line in lines if line]


def _tracked_steps(a: Rules, b: Rules) -> tuple[_Steps, _Steps, _Steps]:
    """running_var in B's terms, before and after A's eps has become B's; and B's running_var in A's terms."""
    if a.tracked_variance == b.tracked_variance:
        return [], [], []
    for rules in (a, b):
        if rules.tracked_variance not in _TRACKED_FACTOR:
            raise _differing(a, b, "tracked_variance")
    if "plus eps" in (a.tracked_variance, b.tracked_variance) and a.update == "deviations":
        raise NotConvertible("the variance that is tracked: eps is mixed in, and deviations are averaged")
    why = f"A tracks a variance with {_TRACKED_NAME[a.tracked_variance]}, B with {_TRACKED_NAME[b.tracked_variance]}"
    less, more = (Step(f"running_var = running_var {sign} eps", why) for sign in "-+")
    there, back = (
        [Step(f"running_var = running_var{factor}", why)] if (factor := _factor(*pair)) else []
        for pair in ((a, b), (b, a))
    )
    if any("(n - 1)" in _TRACKED_FACTOR[rules.tracked_variance] for rules in (a, b)):
        there = [Step("assert n > 1", "n, the batch size: a single sample has no such variance"), *there]
    of_a, of_b = (rules.tracked_variance == "plus eps" for rules in (a, b))
    return [*[less] * of_a, *there], [more] * of_b, [*[less] * of_b, *back, *[more] * of_a]


def _factor(a: Rules, b: Rules) -> str:
    """What A's tracked variance is multiplied by to be B's, as text that follows it; "" for 1."""
    (above_a, below_a), (above_b, below_b) = (_TRACKED_FACTOR[rules.tracked_variance] for rules in (a, b))
    above, below = [below_a, above_b], [above_a, below_b]
    for term in [t for t in above if t in below]:
        above.remove(term)
        below.remove(term)
    return "".join([f" * {term}" for term in above if term] + [f" / {term}" for term in below if term])


# -- functions made of steps ------------------------------------------------------------------------------------------

_ARRAYS = (*PARAMETERS, *STATE)
_OPTIONS = ("eps", "momentum", "m", "n", "steps")


@dataclass(frozen=True)
class Function:
    """Steps as a function that a person can paste."""

    name: str
    says: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def options(self) -> list[str]:
        """The keyword arguments: what its lines use beside the arrays."""
        words = {word for step in self.steps for word in re.findall(r"\w+", step.line)}
        return [option for option in _OPTIONS if option in self.gives or option in words]

    @property
    def source(self) -> str:
        """The function as Python."""
        body = "".join(f"    {step.line}\n" for step in self.steps)
        options = f", *, {', '.join(self.options)}" if self.options else ""
        says = f'    """{self.says}"""\n'
        return f"def {self.name}({', '.join(self.takes)}{options}):\n{says}{body}    return {', '.join(self.gives)}\n"

    @cached_property
    def _compiled(self) -> Callable[..., Any]:
        names: dict[str, Any] = {"np": np}
        exec(self.source, names)  # what is printed is what is run
        function: Callable[..., Any] = names[self.name]
        return function

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """`values` with what the function gives in place of what it takes. Raises AssertionError where it may not."""
        code = self._compiled.__code__
        wanted = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        with np.errstate(all="ignore"):
            given_back = self._compiled(**{name: values[name] for name in wanted})
        named = (given_back,) if len(self.gives) == 1 else given_back
        return {**values, **dict(zip(self.gives, named, strict=True))}


@dataclass(frozen=True)
class Verification:
    """What came of executing a conversion."""

    dtypes: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    cases: int = 0
    worst: float = 0.0
    """The largest difference between A and the converted B, over its bound."""
    counterexample: str = ""

    @property
    def holds(self) -> bool:
        """Whether everything was compared, and agreed."""
        return bool(self.cases) and not self.counterexample

    @property
    def words(self) -> str:
        """In a line."""
        if self.counterexample:
            return f"does not verify: {self.counterexample}"
        ranks = [str(rank) for rank in self.ranks]
        axes = " and ".join([", ".join(ranks[:-1]), ranks[-1]] if ranks[1:] else ranks)
        return (
            f"verified on {self.cases} cases in {', '.join(self.dtypes)}, x with {axes} axes: "
            f"largest difference / bound {self.worst:.3f}"
        )


@dataclass(frozen=True)
class Conversion:
    """What makes `target` do what `source` does, where both follow known rules."""

    source: str
    target: str
    rules: tuple[Conduct, Conduct]
    training: Function | None
    taken_back: Function | None
    evaluation: Function | None
    trained: Function | None
    obstacles: tuple[str, ...] = ()
    """Why there is no conversion of training, or of evaluation, in words."""
    defaults: str = ""
    verification: Verification = field(default_factory=Verification)

    @property
    def functions(self) -> list[Function]:
        """Those that do something, each once."""
        found: list[Function] = []
        for function in (self.training, self.taken_back, self.evaluation, self.trained):
            if function is not None and function not in found and function.steps:
                found.append(function)
        return found

    @property
    def snippet(self) -> str:
        """All functions as Python to paste; "" if nothing needs to be done."""
        parts = [function.source for function in self.functions]
        if not parts:
            return ""
        head = ["import numpy as np\n"] if any("np." in part for part in parts) else []
        return "\n\n".join([*head, *parts])

    @property
    def steps(self) -> list[tuple[str, Step]]:
        """Every step with the occasion for it, as people read them."""
        evaluation = self.evaluation if self.evaluation != self.training else None
        occasions = (
            (f"before a training step of {self.target}" if evaluation else "", self.training),
            (f"after it, to have the state of {self.source}", self.taken_back),
            (f"before an evaluation of {self.target}", evaluation),
            (f"a state after `steps` batches of one size, as {self.target} would have tracked it", self.trained),
        )
        return [(when, step) for when, function in occasions if function is not None for step in function.steps]


def derive(a: Conventions, b: Conventions, rules: tuple[Conduct, Conduct]) -> Conversion:
    """The conversion from A to B where they follow these rules; not yet verified."""
    source, target = a.backend.name, b.backend.name
    names = [re.sub(r"\W", "_", name) for name in (source, target)]
    prefix = "from_{}_to_{}".format(*names)
    obstacles: list[str] = []

    def told(text: str) -> str:
        return re.sub(r"\b[AB]\b", lambda letter: source if letter[0] == "A" else target, text)

    def attempt(what: str, made: Callable[[], _Steps]) -> _Steps | None:
        try:
            return made()
        except NotConvertible as obstacle:
            obstacles.append(f"{what}: {told(str(obstacle))}")
            return None

    def function(name: str, says: str, takes: tuple[str, ...], gives: tuple[str, ...], steps: _Steps) -> Function:
        return Function(name, told(says), takes, gives, tuple(Step(step.line, told(step.why)) for step in steps))

    there = attempt("training", lambda: _training_steps(*rules))
    evaluation = attempt("evaluation", lambda: _evaluation_steps(*rules))
    # One function does for both where the lines are the same, but for momentum, which evaluation has not.
    both = there is not None and [s for s in there if not s.line.startswith("momentum")] == evaluation
    train = evaluate = back = own = None
    if there is not None:
        name, does = (prefix, "evaluation and training are") if both else (f"{prefix}_training", "training is")
        says = f"What B's {does} given, to do as A does."
        train = function(name, says, _ARRAYS, (*_ARRAYS, "eps", "momentum"), there)
        says = "The state that B's training returned, as A's."
        back = function(f"state_of_{names[1]}_as_{names[0]}", says, STATE, STATE, _returned_steps(*rules))
        says = "What B would have tracked from its own start, in `steps` batches of m values a channel."
        own = function(f"{prefix}_trained", says, STATE, STATE, _trained_steps(*rules, a.start, b.start))
    if evaluation is not None:
        says = "What B's evaluation is given, to do as A does."
        evaluate = function(f"{prefix}_evaluation", says, _ARRAYS, (*_ARRAYS, "eps"), evaluation)
    steps = ["; ".join(v for v, _ in c.fact("layer, several steps").values(shared([a, b]))) for c in (a, b)]
    layers_differ = steps[0] != steps[1] and "not offered" not in steps
    if layers_differ:
        obstacles.append(told("layers over several steps: {} in A, {} in B".format(*steps)))
    conversion = Conversion(source, target, rules, train, back, train if both else evaluate, own, tuple(obstacles))
    return conversion if layers_differ else replace(conversion, defaults=_defaults(a, b, conversion))


def _training_steps(a: Conduct, b: Conduct) -> _Steps:
    """What B's training step is given. Raises NotConvertible."""
    for letter, conduct in (("A", a), ("B", b)):
        if conduct.training is None or conduct.tracking is None:
            raise NotConvertible(f"what {letter} does agrees with no known formula, or is not offered")
    assert a.training is not None
    assert b.training is not None
    assert a.tracking is not None
    assert b.tracking is not None
    _same(a.tracking, b.tracking, "axes", "counted", "tracked_of")
    affine, eps = _normalization(a.training, b.training)
    first, last, _ = _tracked_steps(a.tracking, b.tracking)
    if last and eps:
        raise NotConvertible("the variance that is tracked: B mixes eps in, and eps itself differs")
    return [*first, *affine, *eps, *last, *_momentum(a.tracking, b.tracking)]


def _returned_steps(a: Conduct, b: Conduct) -> _Steps:
    """What makes the state that B's training returned A's."""
    assert a.tracking is not None
    assert b.tracking is not None
    return _tracked_steps(a.tracking, b.tracking)[2]


def _evaluation_steps(a: Conduct, b: Conduct) -> _Steps:
    """What B's evaluation is given. Raises NotConvertible."""
    for letter, conduct in (("A", a), ("B", b)):
        if conduct.evaluation is None:
            raise NotConvertible(f"what {letter} does agrees with no known formula, or is not offered")
    one, other = (
        replace(rules, folded="exactly", eps_rule="absent") if rules.folded == "eps lost" else rules
        for rules in (a.evaluation, b.evaluation)
        if rules is not None
    )
    _same(one, other, "evaluation_statistics", "centered", "scaled")
    turned: _Steps = []
    if {one.folded, other.folded} == {"exactly", "sign lost"} and one.evaluation_statistics == "running":
        turned = [Step("running_mean = -running_mean", "the sign of the mean is lost in one of them")]
    else:
        _same(one, other, "folded")
    try:
        return [*turned, *_affine(one, other), *_eps(one, other)]
    except NotConvertible as obstacle:
        if not str(obstacle).startswith("eps") or one.evaluation_statistics != "running":
            raise
    # In evaluation the statistics are constants: whatever the deviation, weight takes it up.
    deviations = [_ROOT[rules.eps_rule] for rules in (other, one)]
    why = "eps enters another way, and in evaluation weight can take that up"
    return [*turned, *_affine(one, other, [Step("weight = weight * {} / {}".format(*deviations), why)])]


def _trained_steps(a: Conduct, b: Conduct, start_a: float | None, start_b: float | None) -> _Steps:
    """B's own state after `steps` batches of one size, from A's: what is left of the start is not a variance."""
    assert a.tracking is not None
    assert b.tracking is not None
    one, other = a.tracking, b.tracking
    if start_a is None or start_b is None or not {one.update, other.update} <= set(_WEIGHED):
        return []
    if "plus eps" in (one.tracked_variance, other.tracked_variance):
        return []
    factor = _factor(one, other)
    if not factor and start_a == start_b:
        return []
    weight = [Step(_MOMENTUM_TO[one.update], f"A: {_WEIGHED[one.update]}")] if one.update in _MOMENTUM_TO else []
    left_a, left_b = (
        {0.0: "", 1.0: f" {sign} left"}.get(start, f" {sign} left * {start:g}")
        for sign, start in (("-", start_a), ("+", start_b))
    )
    middle = f"(running_var{left_a})" if left_a and factor else f"running_var{left_a}"
    return [
        *weight,
        Step("left = (1 - momentum) ** steps", "what the start still weighs"),
        Step(f"running_var = {middle}{factor}{left_b}", "what is left of the start is no variance of the data"),
    ]


def _defaults(a: Conventions, b: Conventions, conversion: Conversion) -> str:
    """The hyperparameters with which B's layer does what A's does by default; "" where its own defaults do."""
    own, usual = (_own_defaults(*one) for one in zip((a, b), conversion.rules, strict=True))
    if conversion.training is None or not own:
        return ""
    if any(re.search(r"\bm\b", step.line) for step in conversion.training.steps if step.line.startswith("eps")):
        return ""  # eps depends on the batch
    ones = dict.fromkeys(_ARRAYS, np.ones(1))
    try:
        result = conversion.training({**ones, **own, "m": 2, "n": 2, "steps": 1})
    except AssertionError:
        return ""
    theirs = {name: float(result[name]) for name in own}
    if all(abs(theirs[name] - (usual or own)[name]) <= 1e-12 for name in own):
        return ""
    shown = [", ".join(f"{n}={shortest(v, 1e-12)}" for n, v in values.items()) for values in (own, theirs, usual)]
    instead = f" (its own are {shown[2]})" if usual else ""
    return f"{a.backend.name}'s defaults, {shown[0]}, are {b.backend.name}'s {shown[1]}{instead}."


def _own_defaults(one: Conventions, rules: Conduct) -> dict[str, float]:
    """The defaults of a layer as its own arguments; nothing where they are not known."""
    own = None if rules.tracking is None else OWN_MOMENTUM.get(rules.tracking.update)
    if own is None or one.eps is None or one.momentum is None:
        return {}
    return {"eps": one.eps, "momentum": own(one.momentum)}


# -- verification -----------------------------------------------------------------------------------------------------

CONVERTING = 8 * REFERENCE
"""No converted number takes more than eight float64 operations, each off by one roundoff."""


def conversions(a: Conventions, b: Conventions, laboratory: Laboratory) -> list[Conversion]:
    """From A to B: one for each pair of rules that they follow in some dtype and rank, executed and verified."""
    places: dict[tuple[Conduct, Conduct], list[tuple[str, int]]] = {}
    for dtype in shared([a, b]):
        for (its_dtype, ndim), conduct in a.conduct.items():
            other = b.conduct.get((dtype, ndim))
            if its_dtype == dtype and other is not None and Conduct() not in (conduct, other):
                places.setdefault((conduct, other), []).append((dtype, ndim))
    made: dict[tuple[str, tuple[str, ...]], tuple[Conversion, list[tuple[str, int]]]] = {}
    for pair, where in places.items():
        conversion = derive(a, b, pair)
        key = (conversion.snippet, conversion.obstacles)
        made.setdefault(key, (conversion, []))[1].extend(where)
    return [
        replace(conversion, verification=verify(conversion, a, b, where, laboratory))
        for conversion, where in made.values()
    ]


def verify(
    conversion: Conversion, a: Conventions, b: Conventions, where: Sequence[tuple[str, int]], laboratory: Laboratory
) -> Verification:
    """Run A, and B with what the conversion gives, on exact and on hostile cases of these dtypes and ranks.

    They may differ by the bound of A under its rules, that of B under its own, what rounding the converted numbers to
    the dtype they are handed over in does to B's results (by B's rules), and the roundoff of the conversion itself.
    """
    trial = _Trial(conversion, a, b)
    compared: dict[tuple[str, int], set[str]] = {place: set() for place in where}
    count, worst = 0, 0.0
    for case in _cases(where, laboratory):
        known = {name: ratio[~np.isnan(ratio)] for name, ratio in trial.differences(case)}
        largest = {name: float(ratio.max()) for name, ratio in known.items() if ratio.size}
        if not largest:
            continue
        compared[case.dtype, len(case.shape)] |= set(largest)
        count, name = count + 1, max(largest, key=largest.__getitem__)
        worst = max(worst, largest[name])
        if worst > 1:
            found = f"{name} differs by {worst:.3g} bounds on {case}"
            return Verification(*_places(where), count, worst, found)
    # A function that was never compared, since one of the two refuses all that it gives, is not verified by another.
    wanted = {
        "y": conversion.training is not None,
        "evaluation": conversion.evaluation is not None,
        _OWN.format("running_var"): bool(conversion.trained and conversion.trained.steps),
    }
    needed = {name for name, is_needed in wanted.items() if is_needed}
    if complete := [place for place in where if needed <= compared[place]]:
        return Verification(*_places(complete), count, worst)
    missing = " and ".join(sorted(needed - set().union(*compared.values())) or sorted(needed))
    return Verification(*_places(where), count, worst, f"{missing} was never compared; one of them refuses all cases")


_OWN = "{} from its own start"


def _places(where: Sequence[tuple[str, int]]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    return tuple(dict.fromkeys(dtype for dtype, _ in where)), tuple(sorted({ndim for _, ndim in where}))


def _cases(where: Sequence[tuple[str, int]], laboratory: Laboratory) -> Iterator[Case]:
    """Those of more than one value a channel: a single one is an edge, on which backends need not agree."""
    for dtype in dict.fromkeys(d for d, _ in where):
        for pool in (pools.exact, pools.accuracy):
            for case in pools.draw(pool, dtype, laboratory.profile, laboratory.seed):
                if (dtype, len(case.shape)) in where and case.size > 1:
                    yield case


class _Trial:
    """A, and B converted to do the same, on one case after another."""

    def __init__(self, conversion: Conversion, a: Conventions, b: Conventions) -> None:
        self.conversion, self.a, self.b = conversion, a, b

    def differences(self, case: Case) -> Iterator[tuple[str, Array]]:
        """By quantity, the difference over its bound, element by element; NaN where rounding may do anything."""
        for trial in (self._training, self._evaluation, self._from_the_start):
            try:
                with np.errstate(all="ignore"):
                    found = list(trial(case))
                yield from found
            except (NotOffered, Crashed, AssertionError):  # one of them refuses, or the conversion does
                continue

    def _training(self, case: Case) -> Iterator[tuple[str, Array]]:
        training, back = self.conversion.training, self.conversion.taken_back
        if training is None or back is None:
            return
        one, other = self.conversion.rules
        values = given(case)
        handed, exact, converted = self._converted(training, case, values)
        got_a, got_b = run_train(self.a.backend, case, values), run_train(self.b.backend, handed, converted)
        of_a = _trained(case, values, one, got_a)
        of_b, ideal = _trained(handed, converted, other, got_b), _trained(handed, exact, other, got_b)
        assert one.training is not None
        assert one.tracking is not None
        scaled = abs(of_a["y"].value - _shift(values, one.training)) * 2 + abs(_shift(values, one.training))
        allowed = of_a["y"].bound + of_b["y"].bound + _apart(of_b["y"], ideal["y"]) + CONVERTING * scaled
        yield "y", _ratio(got_b["y"], got_a["y"], allowed)

        def taken_back(state: Mapping[str, Array]) -> dict[str, Array]:
            return back({**_numbers(case), **state})

        seen = taken_back({name: got_b[name].astype(np.float64) for name in STATE})
        middle, high = (
            taken_back({name: of_b[name].value + sign * of_b[name].bound for name in STATE}) for sign in (0, 1)
        )
        intended = taken_back({name: ideal[name].value for name in STATE})
        batch = tracked(values.x, statistics(values.x, one.tracking), case.eps, one.tracking)
        for name, statistic in zip(STATE, batch, strict=True):
            room = abs(high[name] - middle[name]) + abs(middle[name] - intended[name])
            size = abs(getattr(values, name)) + abs(statistic) + case.eps
            yield name, _ratio(seen[name], got_a[name], of_a[name].bound + room + CONVERTING * size)

    def _evaluation(self, case: Case) -> Iterator[tuple[str, Array]]:
        function = self.conversion.evaluation
        if function is None:
            return
        rules_a, rules_b = (conduct.evaluation for conduct in self.conversion.rules)
        assert rules_a is not None
        assert rules_b is not None
        values = given(case)
        handed, exact, converted = self._converted(function, case, values)
        got_a = run_evaluate(self.a.backend, case, values)["y"]
        got_b = run_evaluate(self.b.backend, handed, converted)["y"]
        of_a = _evaluated(case, values, rules_a, got_a)
        of_b, ideal = (_evaluated(handed, v, rules_b, got_b) for v in (converted, exact))
        shift = _shift(values, rules_a)
        scaled = abs(of_a.value - shift) * 2 + abs(shift)
        allowed = of_a.bound + of_b.bound + _apart(of_b, ideal) + CONVERTING * scaled
        yield "evaluation", _ratio(got_b, got_a, allowed)

    def _from_the_start(self, case: Case) -> Iterator[tuple[str, Array]]:
        """Both trained from their own starts, on batches of one size; A's state then as B's."""
        own, training = self.conversion.trained, self.conversion.training
        if own is None or not own.steps or training is None:
            return
        case = replace(case, steps=3)
        handed = self._converted(training, case, given(case))[0]
        ends = []
        for side, its_case, rules in zip((self.a, self.b), (case, handed), self.conversion.rules, strict=True):
            channels = case.shape[1]
            state = {"running_mean": np.zeros(channels), "running_var": np.full(channels, side.start)}
            bound: dict[str, Array] = {name: np.zeros(channels) for name in STATE}
            for batch in _alike(case):
                values = batch._replace(**state)
                got = run_train(side.backend, its_case, values)
                expected = _trained(its_case, values, rules, got, (bound["running_mean"], bound["running_var"]))
                bound = {name: expected[name].bound for name in STATE}
                state = {name: got[name].astype(np.float64) for name in STATE}
            ends.append((state, bound))
        (state_a, bound_a), (state_b, bound_b) = ends
        told, high = (
            own({**_numbers(case), **{n: state_a[n] + sign * bound_a[n] for n in STATE}, "steps": case.steps})
            for sign in (0, 1)
        )
        for name in STATE:
            # Powers and products of momentum: a step each, measured by the state and its start.
            rounding = case.steps * CONVERTING * (abs(state_a[name]) + abs(state_b[name]) + 1)
            allowed = abs(high[name] - told[name]) + bound_b[name] + rounding
            yield _OWN.format(name), _ratio(state_b[name], told[name], allowed)

    def _converted(self, function: Function, case: Case, values: Inputs) -> tuple[Case, Inputs, Inputs]:
        """The case and inputs for B: as the conversion gives them, and rounded to what is handed over."""
        result = function({**values._asdict(), **_numbers(case)})
        exact = values._replace(**{name: np.asarray(result[name], np.float64) for name in _ARRAYS})
        small = parameter_dtype(case.dtype)
        handed = replace(case, eps=float(result["eps"]), momentum=float(result["momentum"]))
        return handed, exact, exact._replace(**{name: rounded(getattr(exact, name), small) for name in _ARRAYS})


def _numbers(case: Case) -> dict[str, float]:
    return {"eps": case.eps, "momentum": case.momentum, "m": case.size, "n": case.shape[0], "steps": case.steps}


Results = Mapping[str, NDArray[Any]]


def _trained(
    case: Case,
    values: Inputs,
    rules: Conduct,
    got: Results,
    carried: tuple[Array | float, Array | float] = (0.0, 0.0),
) -> dict[str, Expected]:
    """What a training step must give: y by the rules that normalize, the state by those that track."""

    def predicted(which: Rules, arithmetic: Arithmetic) -> dict[str, Expected]:
        return prediction.train(values, which, arithmetic, eps=case.eps, momentum=case.momentum, carried=carried)

    assert rules.training is not None
    assert rules.tracking is not None
    y = _in_its_grade(case.dtype, got, partial(predicted, rules.training), ("y",))
    return y | _in_its_grade(case.dtype, got, partial(predicted, rules.tracking), STATE)


def _evaluated(case: Case, values: Inputs, rules: Rules, got: NDArray[Any]) -> Expected:
    """What an evaluation must give."""
    predicted = partial(prediction.evaluate, values, rules, eps=case.eps)
    return _in_its_grade(case.dtype, {"y": got}, predicted, ("y",))["y"]


def _in_its_grade(
    dtype: str, got: Results, predicted: Callable[[Arithmetic], Mapping[str, Expected]], names: Sequence[str]
) -> dict[str, Expected]:
    """A prediction in the finest arithmetic with which the results agree; in the finest of all if in none."""
    grades = formula_grades(dtype)
    for arithmetic in [*grades, grades[0]]:
        expected = predicted(arithmetic)
        if not any((ratios(got[name], expected[name]) > 1).any() for name in names):
            break
    return {name: expected[name] for name in names}


def _shift(values: Inputs, rules: Rules) -> Array:
    places = Whole(values.x.shape, values.weight.shape)
    return scale_and_shift(values.weight, values.bias, places, rules)[1]


def _apart(one: Expected, other: Expected) -> Array:
    """What rounding the converted numbers to the dtype in which they are handed over does to a result."""
    with np.errstate(invalid="ignore"):
        apart: Array = np.nan_to_num(abs(one.value - other.value), nan=0.0)
    return apart


def _ratio(got: NDArray[Any], wanted: NDArray[Any], bound: Array) -> Array:
    return ratios(got.astype(np.float64), Expected(wanted.astype(np.float64), np.asarray(bound)))


def _alike(case: Case) -> list[Inputs]:
    """`steps` batches of one size."""
    return [given(replace(case, seed=case.seed + 1000 * i, parameters="unit")) for i in range(case.steps)]
