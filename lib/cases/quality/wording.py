"""How findings are worded: lists, directions, and figures that are never rounded onto their limit."""

from __future__ import annotations

from collections.abc import Sequence

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


def listed(names: Sequence[str]) -> str:
    """Names as in a sentence: `CT, MR and PET`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def towards(way: Sequence[float], *, lengths: bool = False) -> str:
    """Main components of a way in RAS mm, in words: `head and front`.

    Args:
        way: The way.
        lengths: Whether each direction is given with its length: `12 mm towards the head`.
    """
    words = (("left", "right"), ("back", "front"), ("feet", "head"))
    return " and ".join(
        f"{abs(size):.0f} mm towards the {word[size > 0]}" if lengths else word[size > 0]
        for size, word in zip(way, words, strict=True)
        if abs(size) >= 0.5 * max(map(abs, way))
    )
