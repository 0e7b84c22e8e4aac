"""How many cases of a pool are to be labelled."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_COUNT = re.compile(r"[0-9]+")
_SHARE = re.compile(r"[0-9]*\.[0-9]+|[0-9]+\.")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) *%")


@dataclass(frozen=True)
class Budget:
    """A stop rule: so many cases, a share of the pool, the plateau of its coverage, or none.

    Attributes:
        rule: Which of them.
        amount: Cases, or a share from 0 to 1; 0 where the rule needs none.
        text: As a site wrote it.

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
            ValueError: If it is none of these, no case at all, or more than the whole pool.
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
        """The rule in cases of a pool of `of`, at least 1 and at most the whole pool.

        Args:
            of: Cases in the pool.
            plateau: After how many cases of an order the coverage hardly grows; None where that is
                not known, and then the rule `plateau` is the whole pool.

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
        """As a site wrote it."""
        return self.text
