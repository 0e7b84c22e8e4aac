"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str = "case") -> str:
    """A number with its noun, such as `1 case` and `1,200 cases`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
