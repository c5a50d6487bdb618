"""Sections 1 and 6: why batch norm works."""

import pytest

from normspec.conformance import training
from normspec.conformance.checking import Check


@pytest.mark.claim("why.trains-faster")
def test_trains_faster(check: Check) -> None:
    """Sections 1 and 6: at a learning rate at which the plain network stalls, the normalized one trains."""
    check.outcome(training.trains_faster)


@pytest.mark.claim("why.matches-dataset")
def test_matches_dataset(check: Check) -> None:
    """Section 2: after training the tracked statistics are the whole training set's, and evaluation as accurate."""
    check.outcome(training.matches_dataset)
