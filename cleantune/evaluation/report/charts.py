"""Charts of the evaluation report: SVG with the colours of the page, light or dark.

Drawn with matplotlib in placeholder colours, which are then replaced by the page's CSS variables.
The same numbers give the same bytes: no date, no random ids.
"""

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cleantune.data.class_tables import shortened

COLOURS = {"#010101": "var(--ink)", "#020202": "var(--soft)", "#030303": "var(--line)",
           "#040404": "var(--accent)", "#050505": "var(--sheet)"}  # fmt: skip
INK, SOFT, LINE, ACCENT, SHEET = COLOURS
SERIES = {f"#0607{k:02x}": f"var(--c{k})" for k in range(8)}
"""One colour per line or part; no chart has more of them."""
SERIES_COLOURS = tuple(SERIES)
SHOWN_WORD = 20  # characters
SMALL_MATRIX = 6  # classes of a confusion matrix that is legible at half the page's width
SHADE = 0.42  # of the darkest cell: more would hide its number, dark on light or light on dark
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10, "text.color": INK,
    "axes.edgecolor": LINE, "axes.labelcolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": LINE,
    "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False,
}  # fmt: skip


def draw(
    name: str, alternative: str, size: tuple[float, float], paint: Callable[[Axes], None]
) -> str:
    """Return ``paint``'s chart as an SVG element, ``size`` in inches, with a text alternative.

    ``name`` makes the ids inside differ from those of other charts on the page.
    """
    with mpl.rc_context(SETTINGS | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")  # missing in our font; browsers have others
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        paint(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    for placeholder, variable in (COLOURS | SERIES).items():
        svg = svg.replace(placeholder, variable)
    escaped = alternative.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escaped}"', 1)


def plain(text: str) -> str:
    """Escape matplotlib's math mode."""
    return text.replace("$", r"\$")


def confusion(counts: np.ndarray, names: Sequence[str], shares: bool) -> str:
    """Draw a confusion matrix, (classes, classes): counts, or shares of each row.

    The shade is the share of the row in both.
    """
    rows = counts.sum(axis=1, keepdims=True)
    values = np.divide(counts, rows, out=np.zeros_like(counts, dtype=float), where=rows > 0)
    small = len(names) <= SMALL_MATRIX
    labels = [plain(name) for name in shortened(names, 18 if small else 26)]

    def paint(axes: Axes) -> None:
        axes.grid(visible=False)
        for i in range(len(names)):
            for j in range(len(names)):
                if not (small or counts[i, j]):
                    continue
                axes.add_patch(mpl.patches.Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=ACCENT,
                                                     alpha=SHADE * float(values[i, j])))  # fmt: skip
                share = f"{values[i, j]:.{1 if small else 0}%}" if rows[i, 0] else "–"
                text = share if shares else f"{int(counts[i, j]):,}"
                axes.text(j, i, text, ha="center", va="center")
        axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5),
                 xlabel="predicted class", ylabel="true class")  # fmt: skip
        steep = len(names) > 3 or max(map(len, labels)) > 10
        axes.set_xticks(range(len(names)), labels, rotation=40 if steep else 0,
                        ha="right" if steep else "center", rotation_mode="anchor")  # fmt: skip
        axes.set_yticks(range(len(names)), labels)

    kind = "shares" if shares else "documents"
    size = (5, 4) if small else (10, 2.2 + 0.42 * len(names))
    return draw(f"confusion-{kind}", f"Confusion matrix, {kind}", size, paint)


def curves(
    name: str, title: str, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    labels: tuple[str, str], diagonal: bool = False, markers: bool = False,
    point: tuple[str, float, float] | None = None,
) -> str:  # fmt: skip
    """Draw at most as many named lines as there are colours, each a pair of x and y, and a point.

    ``labels`` name the axes. The legend is below the plot.
    """
    named = [*shortened(list(lines), 36), *([point[0]] if point else [])]
    columns = 3 if max(map(len, named), default=0) <= 12 else 2 if len(max(named, key=len)) <= 22 else 1  # fmt: skip
    legend = len(named) > 1

    def paint(axes: Axes) -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle="--")
        for (x, y), line, colour in zip(lines.values(), named, SERIES_COLOURS, strict=False):
            axes.plot(x, y, color=colour, linewidth=1.6, label=plain(line),
                      marker="o" if markers else "", markersize=4)  # fmt: skip
        if point:
            axes.plot(*point[1:], "o", color=INK, label=plain(point[0]))
        axes.set(xlabel=labels[0], ylabel=plain(labels[1]))
        if legend:
            axes.figure.legend(loc="outside lower center", ncols=columns)

    height = 3.6 + (0.22 * -(-len(named) // columns) if legend else 0)
    return draw(name, title, (5, height), paint)


def bars(
    name: str, title: str, values: dict[str, float], label: str,
    errors: Mapping[str, Sequence[float] | None] | None = None, top: float = 1,
) -> str:  # fmt: skip
    """Draw shares as horizontal bars, the first on top; ``errors`` hold the interval, if any.

    ``top`` ends the axis.
    """

    def paint(axes: Axes) -> None:
        positions = list(range(len(values)))
        heights = list(values.values())
        axes.barh(positions, heights, color=ACCENT, height=0.62, alpha=0.8)
        for i, (bar, value) in enumerate(values.items()):
            low, high = (errors or {}).get(bar) or (value, value)
            if high > low:
                axes.plot([low, high], [i, i], color=INK, linewidth=1.4)
            axes.text(max(value, high) + 0.005 * top, i, f"{value:.1%}", va="center", fontsize=9)
        axes.set_yticks(positions, [plain(bar) for bar in shortened(list(values), 44)])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set(xlabel=label, xlim=(0, 1.12 * top))

    return draw(name, title, (7, 0.9 + 0.3 * len(values)), paint)


def stacked(
    name: str, title: str, rows: Mapping[str, Mapping[str, int]], parts: Sequence[str], label: str
) -> str:
    """Draw counts as horizontal bars, the first row on top, each of one segment per part.

    There are at most as many ``parts`` as colours.
    """

    def paint(axes: Axes) -> None:
        ends = np.zeros(len(rows))
        for k, part in enumerate(shortened(parts, 36)):
            counts = np.array([of.get(parts[k], 0) for of in rows.values()])
            axes.barh(range(len(rows)), counts, left=ends, height=0.62, label=plain(part),
                      color=SERIES_COLOURS[k])  # fmt: skip
            ends += counts
        for i, end in enumerate(ends):
            axes.text(end + 0.01 * ends.max(), i, f"{int(end):,}", va="center", fontsize=9)
        axes.set_yticks(range(len(rows)), [plain(row) for row in rows])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set(xlabel=label, xlim=(0, 1.12 * ends.max()))
        axes.figure.legend(loc="outside lower center", ncols=2)

    listed = "; ".join(
        f"{row}: {', '.join(f'{part} {count:,}' for part, count in of.items())}"
        for row, of in rows.items()
    )
    height = 3.2 + 0.22 * -(-len(parts) // 2)
    return draw(name, f"{title}. {listed}", (5, height), paint)


def words(name: str, title: str, shares: Mapping[str, float], colour: str, top: float) -> str:
    """Draw shares as bars with their words on them; ``top`` ends the axis."""

    def paint(axes: Axes) -> None:
        positions = range(len(shares))
        axes.barh(positions, list(shares.values()), height=0.86, alpha=0.35, color=colour)
        for i, (word, share) in enumerate(shares.items()):
            short = word if len(word) <= SHOWN_WORD else f"{word[: SHOWN_WORD - 1]}…"
            axes.text(0.03 * top, i, plain(short), va="center", fontsize=9)
            axes.text(
                1.32 * top, i, f"{share:.1%}", ha="right", va="center", color=SOFT, fontsize=9
            )
        axes.set(xlim=(0, 1.32 * top))
        axes.invert_yaxis()
        axes.set_axis_off()

    listed = ", ".join(f"{word} {share:.1%}" for word, share in shares.items())
    return draw(name, f"{title}: {listed}", (2.3, 0.1 + 0.19 * len(shares)), paint)
