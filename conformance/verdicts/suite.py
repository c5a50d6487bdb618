"""What one run is about: the backends asked for, the profile, the seed; opened once in every process."""

import difflib
import fnmatch
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from normspec.conformance.cases.arithmetic import DTYPES
from normspec.conformance.cases.pools import DEFAULT_SEED, PROFILES, Profile
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.trials.adapters import Backend, BadAdapter, Unavailable, missing, open_backend, usual
from normspec.conformance.trials.isolation import TRUSTED, Isolated, Limits
from normspec.conformance.verdicts.laboratory import Laboratory


class UsageProblem(Exception):
    """The command line asks for something that is not there; the message is one sentence."""


@dataclass
class Suite:
    """Backends, profile and seed of a run, and the laboratory in which its experiments are made."""

    profile: Profile
    seed: int
    backends: list[Backend] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    """Adapters that cannot be opened, by name as given, with the reason."""
    not_run: dict[str, str] = field(default_factory=dict)
    """Backends that cannot run on this machine, with the reason."""
    targets: list[tuple[Backend, str]] = field(default_factory=list)
    """What is checked: every backend in every dtype that it offers and that was asked for."""
    claims: list[str] = field(default_factory=list)
    limits: Limits | None = field(default_factory=Limits)
    """What a call may take in the backend's own process; None if all run in this one."""

    def __post_init__(self) -> None:
        self.laboratory = Laboratory(self.profile, self.seed)
        self._isolated: list[Isolated] = []

    @classmethod
    def from_options(
        cls,
        *,
        backends: list[str] | None,
        claims: list[str] | None,
        dtypes: list[str] | None,
        profile: str,
        seed: int | None,
        limits: Limits | None = Limits(),  # noqa: B008  it cannot be changed
        opened: Mapping[str, Any] | None = None,
    ) -> "Suite":
        """The run that the command line asks for; `opened` is what another process tells. Raises UsageProblem."""
        if limits and not (limits.hang_after > 0 and limits.memory > 0):
            raise UsageProblem(
                f"--hang-after is {limits.hang_after:g} and --memory {limits.memory:g}; expected positive numbers, of "
                "seconds and of GiB."
            )
        if profile not in PROFILES:
            raise UsageProblem(f"There is no profile {profile!r}; there are {', '.join(PROFILES)}.")
        for dtype in dtypes or ():
            if dtype not in DTYPES:
                raise UsageProblem(f"There is no dtype {dtype!r}; there are {', '.join(DTYPES)}.")
        chosen = [c for c in CLAIMS if any(fnmatch.fnmatch(c, glob) for glob in claims or ["*"])]
        if not chosen:
            close = [c for glob in claims or () for c in difflib.get_close_matches(glob, CLAIMS, 1)]
            meant = f" Did you mean {' or '.join(close)}?" if close else ""
            raise UsageProblem(f"No claim matches {' or '.join(claims or ())}.{meant} There are {', '.join(CLAIMS)}.")
        suite = cls(PROFILES[profile], DEFAULT_SEED if seed is None else seed, claims=chosen, limits=limits)
        if backends:
            specs = list(dict.fromkeys(backends))
        else:
            specs = [name for name in usual() if not missing(name)]
            suite.not_run.update({name: reason for name in usual() if (reason := missing(name))})
        try:
            suite._open(specs, opened)
            suite._choose(dtypes)
        except BaseException:
            suite.close()
            raise
        return suite

    def _open(self, specs: Sequence[str], opened: Mapping[str, Any] | None) -> None:
        """Open the backends asked for: ours here, all others each in a process of its own, which start side by side."""
        isolated = {s: Isolated(s, self.limits) for s in specs if s != TRUSTED} if self.limits else {}
        self._isolated = list(isolated.values())
        if opened is not None:  # what is not among them cannot run
            self.backends = [
                isolated[s].known(opened[s]) if s in isolated else open_backend(s)
                for s in specs
                if s in opened or s not in isolated
            ]
            return
        for adapter in self._isolated:
            adapter.start()
        for spec in specs:
            try:
                self.backends.append(isolated[spec].open() if spec in isolated else open_backend(spec))
            except Unavailable as reason:
                self.not_run[spec] = str(reason)
            except BadAdapter as problem:
                self.broken[spec] = str(problem)

    def opened(self) -> dict[str, Any]:
        """What the backends in processes of their own say of themselves, as plain values by spec."""
        return {b.spec: dict(b.adapter.about or {}) for b in self.backends if isinstance(b.adapter, Isolated)}

    def close(self) -> None:
        """End the backends' processes."""
        for adapter in self._isolated:
            adapter.close()

    def _choose(self, dtypes: list[str] | None) -> None:
        """Settle what is checked. Raises UsageProblem where nothing is left."""
        if self.broken and not self.backends:
            raise UsageProblem(" ".join(self.broken.values()))
        if not self.backends:
            told = "; ".join(f"{name}: {reason}" for name, reason in self.not_run.items())
            raise UsageProblem(f"None of the backends can run here: {told}.")
        self.targets = [(b, d) for b in self.backends for d in b.dtypes if not dtypes or d in dtypes]
        if not self.targets:
            offered = "; ".join(f"{b.name}: {', '.join(b.dtypes)}" for b in self.backends)
            raise UsageProblem(f"No backend offers {', '.join(dtypes or ())}. Offered are {offered}.")
        names = [b.name for b in self.backends]
        if len(set(names)) < len(names):
            raise UsageProblem(f"Two backends have the same name: {', '.join(names)}. Give each its own `name`.")

    @property
    def is_default(self) -> bool:
        """Whether the cases are the fixed ones of every run."""
        return self.seed == DEFAULT_SEED

    def header(self) -> list[str]:
        """What pytest prints before it starts."""
        shown = ", ".join(b.title for b in self.backends)
        count = f"{len(self.claims)} claim{'s' if len(self.claims) > 1 else ''}"
        lines = [f"normspec: {count} on {shown}; profile {self.profile.name}, seed {self.seed}"]
        lines += [f"normspec: {name} not run: {reason}" for name, reason in self.not_run.items()]
        lines += [f"normspec: {problem}" for problem in self.broken.values()]
        return lines

    def again(self, program: str, backend: Backend, dtype: str, claim: str) -> str:
        """The command line that runs one check as this run did."""
        words: list[Any] = ["--backend", backend.spec, "--claim", claim, "--dtype", dtype]
        if self.profile.name != "default":
            words += ["--profile", self.profile.name]
        if not self.is_default:
            words += ["--seed", self.seed]
        if self.limits is None:
            words.append("--in-process")
        elif self.limits != Limits():
            words += ["--hang-after", f"{self.limits.hang_after:g}", "--memory", f"{self.limits.memory:g}"]
        return f"{program} {shlex.join(map(str, words))}"
