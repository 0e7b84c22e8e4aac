"""Notes that clients store with a case or a label: what is accepted."""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any

from lib.runtime.errors import UserError


def check_notes(notes: Any, *, reserved: Set[str]) -> dict[str, Any]:
    """What a client sent, if every client can be sent it again.

    Args:
        notes: As they came.
        reserved: Keys that only the server writes.

    Raises:
        UserError: If it is no JSON object, or has one of these keys.
    """
    if not isinstance(notes, dict):
        raise UserError(f"what is stored with a case must be a JSON object; got {type(notes).__name__}.")
    try:
        json.dumps(notes, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as err:  # NaN, infinity, or half a character
        raise UserError("what is stored with a case must be finite numbers and whole characters.") from err
    if ours := sorted(notes.keys() & reserved):
        raise UserError(f"notes must not use the server's own keys; got {ours[0]!r}. Choose another name.")
    return notes
