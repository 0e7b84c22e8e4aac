"""Budget of a pool: the number of cases to label."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_COUNT = re.compile(r"[0-9]+")
_SHARE = re.compile(r"[0-9]*\.[0-9]+|[0-9]+\.")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) *%")


@dataclass(frozen=True)
class Budget:
    """Stop rule: a number of cases, a share of the pool, the plateau of its coverage, or the whole pool.

    Attributes:
        rule: Kind of the rule.
        amount: Number of cases, or share from 0 to 1; 0 if the rule needs no number.
        text: Setting as the user wrote it.

    Example:
        >>> Budget.parse("20%").cases(70)
        14
    """

    rule: Literal["whole", "count", "share", "plateau"]
    amount: float
    text: str

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read a setting: "", "20", "20%", "0.2" or "plateau".

        Raises:
            ValueError: If the text is none of these, or means no case or more than the whole pool.
        """
        text = text.strip()
        if not text:
            return cls("whole", 0.0, text)
        if text == "plateau":
            return cls("plateau", 0.0, text)
        if _COUNT.fullmatch(text) and int(text) > 0:
            return cls("count", int(text), text)
        percent = _PERCENT.fullmatch(text)
        if percent or _SHARE.fullmatch(text):
            share = float(percent[1]) / 100.0 if percent else float(text)
            if 0.0 < share <= 1.0:
                return cls("share", share, text)
        raise ValueError(
            "budget must be a number of cases (20), a share of the pool (20% or 0.2), plateau, or empty for "
            f"the whole pool; got {text!r}. Set --conf budget."
        )

    def cases(self, of: int, *, plateau: int | None = None) -> int:
        """Number of cases to label in a pool of `of` cases, at least 1 and at most the whole pool.

        Args:
            of: Number of cases in the pool.
            plateau: Number of cases after which the coverage hardly grows; None if unknown, and the rule
                `plateau` then means the whole pool.

        Raises:
            ValueError: If the pool is empty.
        """
        if of < 1:
            raise ValueError(f"a pool must hold at least 1 case; got {of}. Add studies.")
        wanted = {
            "whole": of,
            "count": int(self.amount),
            "share": round(self.amount * of),
            "plateau": of if plateau is None else plateau,
        }[self.rule]
        return min(of, max(1, wanted))

    def __str__(self) -> str:
        """Setting as the user wrote it."""
        return self.text
