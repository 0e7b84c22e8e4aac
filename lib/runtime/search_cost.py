"""Upper bound on the time of a regular expression: some with ten characters search for years."""

from __future__ import annotations

import re
from collections.abc import Iterable
from re import _parser  # type: ignore[attr-defined]
from typing import Any

MAX_TEXT_LENGTH = 64  # characters of a SeriesDescription (LO in DICOM)
MAX_WAYS = (MAX_TEXT_LENGTH + 1) ** 3  # ways to match from one position: about 10 ms
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


def check_cost(pattern: str) -> None:
    """Refuse a regular expression that may search for more than a few hundredths of a second.

    Every part that can match in several ways multiplies the number of ways: a repetition by the number of
    its lengths, an alternative by the number of its branches. Repeating a part that can itself match in
    several ways, as in `(a+)+` or `(a|aa)*`, has no bound.

    Args:
        pattern: Regular expression for texts of at most `MAX_TEXT_LENGTH` characters.

    Raises:
        ValueError: If it is no regular expression, or may take longer; the message says what to change.
    """
    try:
        ways = _ways_of_all(_parser.parse(pattern))
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as err:
        raise ValueError(f"it must be a regular expression; {err}") from err
    if ways > MAX_WAYS:
        raise ValueError("it can match in too many ways; use at most three repetitions such as .*")


def _ways_of_all(parts: Iterable[tuple[Any, Any]]) -> int:
    ways = 1
    for operation, argument in parts:
        ways *= _ways(str(operation), argument)
        if ways > MAX_WAYS:
            return ways
    return ways


def _ways(operation: str, argument: Any) -> int:
    """Number of ways in which one part can match."""
    if operation in _REPEATS:
        return _ways_to_repeat(*argument)
    if operation == "BRANCH":
        return sum(_ways_of_all(branch) for branch in argument[1])
    if operation == "SUBPATTERN":
        return _ways_of_all(argument[3])
    if operation in ("ASSERT", "ASSERT_NOT"):
        return _ways_of_all(argument[1])
    if operation == "ATOMIC_GROUP":
        return _ways_of_all(argument)
    if operation == "GROUPREF_EXISTS":
        return sum(_ways_of_all(branch) for branch in argument[1:] if branch is not None)
    return 1  # a character, a character class, an anchor


def _ways_to_repeat(least: int, most: int, body: Iterable[tuple[Any, Any]]) -> int:
    ways = _ways_of_all(body)
    if most <= 1:
        return ways + 1
    if ways > 1:
        raise ValueError("a repetition must not repeat what can itself match in several ways, as in (a+)+")
    if least > MAX_TEXT_LENGTH:
        raise ValueError(f"a repetition must ask for at most {MAX_TEXT_LENGTH} times; it asks for {least}")
    return max(least, 1) * (min(most, MAX_TEXT_LENGTH) - min(least, MAX_TEXT_LENGTH) + 1)
