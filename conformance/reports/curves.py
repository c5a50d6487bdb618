"""Curves drawn as SVG, the same bytes from the same numbers with the same Matplotlib."""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#767676"
"""Of text, axes and grid where no page says otherwise: the grey that is read as well on white as on black.

In the drawing it is `currentColor`, so that a page may give it its own.
"""
LINES = ("#d1495b", "#2a88d8", "#8a7f00", "#8a5fd0", "#1f9d76")
"""Of the curves, likewise, and told apart by most colour-blind eyes; the dashes tell them apart as well."""
_DASHES = ("-", "--", "-.", ":")


class NoPlots(Exception):
    """Matplotlib is not there; the message is one sentence."""


def drawn(title: str, curves: Mapping[str, Sequence[float]]) -> str:
    """An SVG element with the curves over their steps, the first step being 1, on a transparent background.

    Values that are not finite leave a gap. Raises NoPlots without Matplotlib.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot(xlabel="step", title=title, facecolor="none")
        for number, (name, curve) in enumerate(curves.items()):
            shown = [value if math.isfinite(value) else math.nan for value in curve]
            color, dashes = LINES[number % len(LINES)], _DASHES[number % len(_DASHES)]
            axes.plot(range(1, len(shown) + 1), shown, label=name, linewidth=1.6, color=color, linestyle=dashes)
        axes.grid(alpha=0.35)
        axes.spines[["top", "right"]].set_visible(False)
        if curves:
            axes.legend(frameon=False)

    return svg(title, (6.4, 3.6), draw)


def svg(title: str, size: tuple[float, float], draw: "Callable[[Figure], None]") -> str:
    """An SVG element of `size` in inches, on a transparent background. Raises NoPlots without Matplotlib."""
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise NoPlots("Matplotlib is not installed: pip install 'normspec[plots]'") from None
    style: Any = {
        "svg.hashsalt": f"normspec {title}",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        "text.parse_math": False,
        "axes.titlesize": 11,
        **{f"{of}color": INK for of in ("text.", "axes.edge", "axes.label", "xtick.", "ytick.", "grid.")},
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user has set
        matplotlib.rcParams.update(style)
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        draw(figure)
        file = io.StringIO()
        about = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # nothing of when and with what
        FigureCanvasSVG(figure)  # becomes the figure's own
        figure.savefig(file, format="svg", metadata=about)
    text = file.getvalue()
    prefix = re.sub(r"\W+", "-", title)
    return re.sub(r"<[^<>]+>", lambda tag: _adapted(tag[0], prefix), text[text.index("<svg") :])


def _adapted(tag: str, prefix: str) -> str:
    """A tag for a page with other drawings, whose ids must not be the same, and with a colour of its own for text."""
    tag = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{prefix}-", tag.replace(INK, "currentColor"))
    return re.sub(r"^<svg\b", f'<svg color="{INK}"', tag)
