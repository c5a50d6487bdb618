"""Section 3: the article's own experiment."""

import pytest

from normspec.conformance.cases import pools
from normspec.conformance.cases.operations import STATE
from normspec.conformance.trials.experiments import LAYER, TRAIN
from normspec.conformance.verdicts.checking import Check, on


@pytest.mark.claim("example.article")
def test_article(check: Check) -> None:
    """Section 3 (code): a (2, 2, 2, 2) standard normal batch through a new layer, against the formula."""
    check.formula(on(pools.article, TRAIN, "y", *STATE), on(pools.article, LAYER, "y", *STATE), alone=True)
