"""What one run is about: the backends asked for, the profile, the seed; opened once in every process."""

import fnmatch
import shlex
from dataclasses import dataclass, field
from typing import Any

from normspec.backends import SHIPPED
from normspec.conformance.adapters import Backend, BadAdapter, Unavailable, available, installed, open_backend
from normspec.conformance.arithmetic import DTYPES
from normspec.conformance.checking import Laboratory
from normspec.conformance.claims import CLAIMS
from normspec.conformance.pools import DEFAULT_SEED, PROFILES, Profile


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

    def __post_init__(self) -> None:
        self.laboratory = Laboratory(self.profile, self.seed)

    @classmethod
    def from_options(
        cls,
        *,
        backends: list[str] | None,
        claims: list[str] | None,
        dtypes: list[str] | None,
        profile: str,
        seed: int | None,
    ) -> "Suite":
        """The run that the command line asks for. Raises UsageProblem."""
        if profile not in PROFILES:
            raise UsageProblem(f"There is no profile {profile!r}; there are {', '.join(PROFILES)}.")
        for dtype in dtypes or ():
            if dtype not in DTYPES:
                raise UsageProblem(f"There is no dtype {dtype!r}; there are {', '.join(DTYPES)}.")
        chosen = [c for c in CLAIMS if any(fnmatch.fnmatch(c, glob) for glob in claims or ["*"])]
        if not chosen:
            raise UsageProblem(f"No claim matches {' or '.join(claims or ())}; there are {', '.join(CLAIMS)}.")
        suite = cls(PROFILES[profile], DEFAULT_SEED if seed is None else seed, claims=chosen)
        specs = (
            list(dict.fromkeys(backends)) if backends else [n for n in available() if n not in SHIPPED or installed(n)]
        )
        if not backends:
            suite.not_run.update({n: f"{n.split('-')[0]} is not installed" for n in SHIPPED if not installed(n)})
        for spec in specs:
            try:
                suite.backends.append(open_backend(spec))
            except Unavailable as reason:
                suite.not_run[spec] = str(reason)
            except BadAdapter as problem:
                suite.broken[spec] = str(problem)
        if suite.broken and not suite.backends:
            raise UsageProblem(" ".join(suite.broken.values()))
        if not suite.backends:
            told = "; ".join(f"{name}: {reason}" for name, reason in suite.not_run.items())
            raise UsageProblem(f"None of the backends can run here: {told}.")
        suite.targets = [(b, d) for b in suite.backends for d in b.dtypes if not dtypes or d in dtypes]
        if not suite.targets:
            offered = "; ".join(f"{b.name}: {', '.join(b.dtypes)}" for b in suite.backends)
            raise UsageProblem(f"No backend offers {', '.join(dtypes or ())}. Offered are {offered}.")
        names = [b.name for b in suite.backends]
        if len(set(names)) < len(names):
            raise UsageProblem(f"Two backends have the same name: {', '.join(names)}. Give each its own `name`.")
        return suite

    @property
    def is_default(self) -> bool:
        """Whether the cases are the fixed ones of every run."""
        return self.seed == DEFAULT_SEED

    def header(self) -> list[str]:
        """What pytest prints before it starts."""
        shown = ", ".join(b.title for b in self.backends)
        lines = [f"normspec: {len(self.claims)} claims on {shown}; profile {self.profile.name}, seed {self.seed}"]
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
        return f"{program} {shlex.join(map(str, words))}"
