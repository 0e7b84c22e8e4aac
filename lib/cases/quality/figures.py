"""Figures in findings: never rounded onto the limit that they missed."""

from __future__ import annotations

MOST_MORE = 4  # further decimals that are tried


def apart(value: float, limit: float, *, decimals: int = 2, percent: bool = False) -> tuple[str, str]:
    """A figure and its limit as text, with as many decimals as tell them apart.

    Args:
        value: Figure, which is not equal to the limit.
        limit: Limit.
        decimals: Decimals that are shown if they are enough.
        percent: Whether both are shares.
    """
    style = "%" if percent else "f"
    for places in range(decimals, decimals + MOST_MORE + 1):
        shown = f"{value:.{places}{style}}", f"{limit:.{places}{style}}"
        if shown[0] != shown[1]:
            break
    return shown
