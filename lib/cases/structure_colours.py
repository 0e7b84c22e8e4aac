"""Colour of each structure: the same on the page, in pictures and in a DICOM SEG."""

from __future__ import annotations

from skimage.color import rgb2lab

_COLOURS = (  # Okabe and Ito's, distinct for colour-blind readers; the first is visible on every map
    "#56b4e9",  # sky blue
    "#d55e00",  # vermilion
    "#f0e442",  # yellow
    "#009e73",  # green
    "#cc79a7",  # purple
    "#0072b2",  # blue
    "#e69f00",  # orange
)


def colour_of(value: int) -> str:
    """Colour of a label value (1 or more), such as `#56b4e9`; a pool of more structures repeats them."""
    return _COLOURS[(value - 1) % len(_COLOURS)]


def cielab_of(value: int) -> tuple[float, float, float]:
    """Colour of a label value in CIELab (L*, a*, b*), as DICOM records it."""
    colour = colour_of(value)
    red, green, blue = (int(colour[place : place + 2], 16) / 255.0 for place in (1, 3, 5))
    lightness, a, b = rgb2lab([red, green, blue]).tolist()
    return lightness, a, b
