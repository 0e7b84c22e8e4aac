"""Figures as picture files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def save_jpeg(figure: Figure, path: Path, **options: Any) -> None:
    """Write a JPEG; the options are Pillow's, such as `quality`."""
    _save(figure, path, format="jpeg", pil_kwargs=options)


def save_png(figure: Figure, path: Path) -> None:
    """Write a PNG; the same figure gives the same bytes."""
    _save(figure, path, format="png", metadata={"Software": None})


def _save(figure: Figure, path: Path, **how: Any) -> None:
    """Write a figure on its own background.

    While Matplotlib writes a JPEG, it sets a white background for the whole process, and another thread that
    writes a figure at that time would get it, as would all later ones if both end in the wrong order.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in another script shows boxes
        figure.savefig(path, facecolor=figure.get_facecolor(), **how)
