"""Faulty backends beyond the rivals: a few lines each, each wrong in one thing, each naming the claim to blame."""

from faults import (
    arguments,
    converted,
    edges,
    gradients,
    layers,
    memory,
    modes,
    nans,
    networks,
    numerics,
    relatives,
    repeats,
    state,
    structure,
    training,
    types,
    usage,
)
from faults.registry import FAULTS, Fault

FAMILIES = (
    structure, memory, numerics, arguments, modes, state, layers, gradients, nans, edges, types, repeats, converted,
    relatives, networks, usage, training,
)  # fmt: skip
__all__ = ["FAMILIES", "FAULTS", "Fault"]
