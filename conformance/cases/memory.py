"""What is kept of what was computed: thousands of small cases, a few large ones, two huge ones."""

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import TypeVar

from normspec.conformance.cases.cases import Case

LARGE, HUGE = 20_000, 250_000  # elements of x; a huge case and what is predicted of it take some 100 bytes an element
KEPT = 500_000
"""Elements of the largest case whose trace is kept; the backend is run again where a larger one is looked at."""

Result = TypeVar("Result")


def kept_by_size(small: int) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Keep the results of a function of a case: of `small` small cases, 16 large ones and 2 huge ones."""

    def keep(function: Callable[..., Result]) -> Callable[..., Result]:
        of_small, of_large, of_huge = (lru_cache(size)(function) for size in (small, 16, 2))

        def kept(case: Case, *rest: Hashable) -> Result:
            fitting = of_small if case.elements <= LARGE else of_large if case.elements <= HUGE else of_huge
            return fitting(case, *rest)

        return kept

    return keep
