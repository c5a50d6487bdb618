"""Section 3: the article's own experiment."""

import pytest

from normspec.conformance import pools
from normspec.conformance.checking import Check, on
from normspec.conformance.experiments import LAYER, STATE, TRAIN


@pytest.mark.claim("example.article")
def test_article(check: Check) -> None:
    """Section 3 (code): a (2, 2, 2, 2) standard normal batch through a new layer, against the formula."""
    check.formula(on(pools.article, TRAIN, "y", *STATE), on(pools.article, LAYER, "y", *STATE), alone=True)
