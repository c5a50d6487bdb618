"""The merged matrix as a page: one HTML file that needs no other, to be looked at, filtered, compared and printed."""

from normspec.conformance.merged import Merged


def html(found: Merged) -> str:
    """The page."""
    raise NotImplementedError


def badge(found: Merged) -> str:
    """How many verdicts are as declared, as an SVG in the manner of badges."""
    raise NotImplementedError
