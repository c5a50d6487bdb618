"""Plots of a merged matrix: error over bound, against conditioning and by dtype."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from normspec.conformance.cases.arithmetic import DTYPES, SHORT
from normspec.conformance.reports.curves import INK, LINES, svg
from normspec.conformance.reports.merged import Merged
from normspec.conformance.verdicts.verdicts import Kind

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONDITIONING = "precision.cancellation"
"""The claim whose check measures the error against the conditioning."""
_COLORS = dict(zip(DTYPES, (LINES[1], LINES[0], LINES[4], LINES[3]), strict=True))
_MARKS = dict(zip(DTYPES, ("o", "s", "^", "D"), strict=True))
_LOWEST, _HIGHEST = 1e-9, 1e9
"""What is drawn: smaller errors lie on the lower edge, greater ones and infinite ones on the upper."""


Margins = Mapping[tuple[str, str], Sequence[tuple[float, float]]]


def margins(found: Merged) -> Margins:
    """By column and dtype: pairs of |mean| / deviation and the largest error over bound, where it was measured."""
    return {
        (column, o.dtype): o.margins
        for (claim, column, _), o in found.outcomes.items()
        if claim == CONDITIONING and o.margins
    }


def worsts(found: Merged) -> dict[tuple[str, str], list[float]]:
    """By column and dtype: the largest error over bound of each claim that conforms and each quantity, in order."""
    seen: dict[tuple[str, str], list[float]] = {}
    for (_, column, dtype), o in found.outcomes.items():
        if o.kind == Kind.CONFORMS:
            seen.setdefault((column, dtype), []).extend(r for r in o.worst.values() if math.isfinite(r))
    return {key: sorted(ratios) for key, ratios in seen.items() if ratios}


def against_conditioning(found: Merged, *, across: int = 6) -> str:
    """A small chart for each column, all on the same axes. Raises NoPlots."""
    told = margins(found)
    columns = [c for c in found.columns if any((c.id, dtype) in told for dtype in DTYPES)]
    rows = max(1, math.ceil(len(columns) / across))

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False)
        for place, axes in enumerate(grid.flat):
            if place >= len(columns):
                axes.set_axis_off()
                continue
            column = columns[place]
            axes.set_facecolor("none")
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_ylim(_LOWEST / 4, _HIGHEST * 4)
            axes.set_yticks([_LOWEST, 1, _HIGHEST], ["1e-9", "1", "1e9"])
            axes.set_xticks([1, 2.0**15, 2.0**30], ["1", "2^15", "2^30"])
            axes.minorticks_off()
            axes.axhline(1, color=INK, linewidth=1.2, linestyle="--")
            axes.set_title(_short(column.id, 25), fontsize=8, loc="left")
            axes.tick_params(labelsize=8)
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
            for dtype in DTYPES:
                points = told.get((column.id, dtype), ())
                if points:
                    shown = [min(max(ratio, _LOWEST), _HIGHEST) for _, ratio in points]
                    axes.plot(
                        [spread for spread, _ in points],
                        shown,
                        color=_COLORS[dtype],
                        marker=_MARKS[dtype],
                        markersize=2.5,
                        linewidth=0.9,
                        label=dtype,
                    )
        figure.supxlabel("|mean| / deviation of the channel", fontsize=9, color=INK)
        figure.supylabel("error of running_var / bound", fontsize=9, color=INK)
        handles = {h.get_label(): h for axes in grid.flat for h in axes.get_lines() if h.get_label() in DTYPES}
        figure.legend(handles.values(), list(handles), loc="outside upper right", ncols=4, frameon=False, fontsize=8)

    return svg("error against conditioning", (1.85 * across, 1.25 * rows + 0.9), draw)


def by_dtype(found: Merged) -> str:
    """A row for each column and dtype: median, the middle 80 percent, and the largest. Raises NoPlots."""
    told = worsts(found)
    columns = [c for c in found.columns if any((c.id, dtype) in told for dtype in DTYPES)]

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot(facecolor="none")
        drawn = set()
        for row, column in enumerate(columns):
            offered = [dtype for dtype in DTYPES if (column.id, dtype) in told]
            for place, dtype in enumerate(offered):
                ratios = [max(ratio, 1e-6) for ratio in told[column.id, dtype]]
                low, middle, high = (_at(ratios, part) for part in (0.1, 0.5, 0.9))
                y = row + (place - (len(offered) - 1) / 2) * 0.2
                axes.plot([low, high], [y, y], color=_COLORS[dtype], linewidth=1.6)
                axes.plot(
                    [middle],
                    [y],
                    color=_COLORS[dtype],
                    marker=_MARKS[dtype],
                    markersize=3.5,
                    linestyle="none",
                    label="" if dtype in drawn else dtype,
                )
                axes.plot([ratios[-1]], [y], color=_COLORS[dtype], marker="|", markersize=6, linestyle="none")
                drawn.add(dtype)
        axes.axvline(1, color=INK, linewidth=1.2, linestyle="--")
        axes.set_xscale("log")
        axes.set_xticks([1e-6, 1e-4, 1e-2, 1], ["1e-6 or less", "1e-4", "0.01", "1"])
        axes.minorticks_off()
        axes.set_yticks(range(len(columns)), [_short(c.id) for c in columns], fontsize=8)
        axes.set_ylim(len(columns) - 0.4, -0.6)
        axes.set_xlabel("largest error / bound of each claim and quantity: middle 80 %, median, largest", fontsize=9)
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="x", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        handles = [h for h in axes.get_lines() if h.get_label() in DTYPES]
        figure.legend(handles=handles, loc="outside upper right", ncols=4, frameon=False, fontsize=8)

    return svg("error by dtype", (8.0, 0.26 * len(columns) + 1.2), draw)


def conditioning_table(found: Merged) -> list[tuple[str, str, str, str, str]]:
    """The same in words: column, dtype, the largest error over bound, at which |mean| / deviation, where it is over 1.

    Rows are in the order of the columns.
    """
    rows = []
    for (column, dtype), points in margins(found).items():
        spread, ratio = max(points, key=lambda point: (point[1], -point[0]))
        rows.append((column, SHORT[dtype], _number(ratio), _power(spread), _beyond(points)))
    return rows


def _beyond(points: Sequence[tuple[float, float]]) -> str:
    """Where the error is over its bound, in words."""
    parts = []
    for over, group in groupby(points, key=lambda point: point[1] > 1):
        first, *_, last = [_power(spread) for spread, _ in group] * 2
        if over and last == _power(points[-1][0]):
            parts.append(f"from {first} on")
        elif over:
            parts.append(f"from {first} to {last}" if first != last else f"at {first}")
    return ", ".join(parts) or "nowhere"


def _power(spread: float) -> str:
    return f"2^{math.log2(spread):.0f}"


def _at(ordered: Sequence[float], part: float) -> float:
    """The value below which this part of them lies."""
    return ordered[round(part * (len(ordered) - 1))]


def dtype_table(found: Merged) -> list[tuple[str, str, str, str]]:
    """The same in words: column, dtype, median and largest."""
    return [
        (column, SHORT[dtype], _number(_at(ratios, 0.5)), _number(ratios[-1]))
        for (column, dtype), ratios in worsts(found).items()
    ]


def _number(ratio: float) -> str:
    return "infinite" if math.isinf(ratio) else f"{ratio:.2g}"


def _short(name: str, most: int = 30) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
