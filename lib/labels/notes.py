"""Checks of the notes that clients store with a case or a label."""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any

from lib.runtime.errors import UserError

MAX_DEPTH = 32  # levels of lists and objects in each other; readers of JSON give up at 200 or more


def check_notes(notes: Any, *, reserved: Set[str]) -> dict[str, Any]:
    """Notes of a client, after checking that every client can receive them.

    Args:
        notes: Notes as the client sent them.
        reserved: Keys that only the server writes.

    Raises:
        UserError: If the notes are not a JSON object of finite numbers and valid text, are nested too deeply,
            or use a reserved key.
    """
    if not isinstance(notes, dict):
        raise UserError(f"notes must be a JSON object; got {type(notes).__name__}.")
    if not _is_flatter_than(MAX_DEPTH, notes):
        raise UserError(
            f"notes must have at most {MAX_DEPTH} levels of lists and objects in each other; these have "
            "more. Write them flatter."
        )
    try:
        json.dumps(notes, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as err:  # NaN, infinity, or a lone surrogate
        raise UserError("notes must hold finite numbers and valid characters only.") from err
    if ours := sorted(notes.keys() & reserved):
        raise UserError(f"notes must not use the server's own keys; got {ours[0]!r}. Choose another name.")
    return notes


def _is_flatter_than(depth: int, value: Any) -> bool:
    """Whether lists and objects lie in each other in at most `depth` levels."""
    level = [value]
    for _ in range(depth + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list, tuple))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return True
    return False
