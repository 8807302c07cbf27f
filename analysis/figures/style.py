"""The style of figures: sizes for a two-column paper, and colours that colour-blind readers can
distinguish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from agents.core.errors import UsageError

COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7A4B00",
    "#6B6B6B", "#8A2BE2",
)  # fmt: skip
"""Okabe and Ito's (2008), the yellow left out because it is faint on white, and three more."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), "-", "--", "-.")
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "ooo", "---", "+++", "|||", "**")


@contextmanager
def paper_style(width: str) -> Iterator[Any]:
    """matplotlib's pyplot-free `Figure`, with fonts and sizes for a `column` or a `page`.

    Fonts are embedded as TrueType. Labels come from sweep files, so no text is read as
    mathematics. Raises UsageError if the extra `plots` is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from tueplots import figsizes, fontsizes
    except ImportError:
        raise UsageError(
            "figures need matplotlib and tueplots: pip install -c constraints.txt -e '.[plots]'"
        ) from None
    sizes = figsizes.icml2024_half() if width == "column" else figsizes.icml2024_full()
    settings: dict[Any, Any] = {
        **fontsizes.icml2024(),
        "figure.figsize": sizes["figure.figsize"],
        "figure.dpi": 300,
        "savefig.dpi": 300,
        "font.family": "DejaVu Sans",  # comes with matplotlib
        "text.parse_math": False,
        "text.usetex": False,
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        "svg.fonttype": "path",
        "svg.hashsalt": "crsweep",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.linewidth": 0.4,
        "grid.color": "#DDDDDD",
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
        "hatch.linewidth": 0.4,
        "legend.frameon": False,
        "legend.handlelength": 1.8,
        "legend.columnspacing": 1.2,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
    }
    with matplotlib.rc_context(settings):
        yield Figure
