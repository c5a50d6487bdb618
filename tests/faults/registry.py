"""The register of faulty backends: what each is called, and which claim must be blamed for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from faults.pieces import Layer, Pieces


@dataclass(frozen=True)
class Fault:
    """A faulty backend and what must come of it."""

    name: str
    family: str
    """The file it is in."""
    claim: str
    """The claim that a developer should read first."""
    dtype: str
    """Where it is looked for."""
    threads: tuple[str, ...]
    """Public threads on bugs of this kind, as owner/repository#number."""
    explained: str
    """Why another claim may be blamed, where one is."""
    wrong: str
    """What is wrong, in a sentence."""
    make: Callable[[], Any]
    """Builds the adapter."""


FAULTS: dict[str, Fault] = {}
"""All faults by name."""


def fault(
    claim: str, *, dtype: str = "float32", thread: str | tuple[str, ...] = (), explained: str = ""
) -> Callable[[type], type]:
    """Enter a class as a fault: an operation with a piece replaced, or a layer around the sound operation."""

    def enter(faulty: type) -> type:
        assert faulty.__name__ not in FAULTS, f"two faults are called {faulty.__name__}"
        FAULTS[faulty.__name__] = Fault(
            name=faulty.__name__,
            family=faulty.__module__.rpartition(".")[2],
            claim=claim,
            dtype=dtype,
            threads=(thread,) if isinstance(thread, str) else thread,
            explained=explained,
            wrong=(faulty.__doc__ or "").strip(),
            make=(lambda: Pieces(faulty)) if issubclass(faulty, Layer) else faulty,
        )
        return faulty

    return enter
