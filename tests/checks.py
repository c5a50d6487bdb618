"""Running the suite's checks without pytest around them, in a laboratory of their own."""

from dataclasses import replace

from normspec.conformance.cases.pools import DEFAULT_SEED, PROFILES
from normspec.conformance.claims.claims import CLAIMS
from normspec.conformance.trials.adapters import Backend
from normspec.conformance.trials.deviations import Deviation
from normspec.conformance.verdicts import running
from normspec.conformance.verdicts.laboratory import Laboratory
from normspec.conformance.verdicts.running import check_functions
from normspec.conformance.verdicts.verdicts import Verdict

__all__ = ["check_functions", "known", "laboratory", "run_check"]


def laboratory(profile: str = "quick", seed: int = DEFAULT_SEED) -> Laboratory:
    return Laboratory(PROFILES[profile], seed)


def run_check(claim: str, backend: Backend, dtype: str, lab: Laboratory | None = None) -> Verdict:
    """The verdict of one check on one backend."""
    return running.run_check(claim, backend, dtype, lab or laboratory())


def known(backend: Backend) -> Backend:
    """The same, declaring something of every claim, so that no time goes into simpler examples of what is wrong."""
    everything = [Deviation(claim, "something", "", "a fault of our own", "undocumented") for claim in CLAIMS]
    return replace(backend, deviations=tuple(everything))
