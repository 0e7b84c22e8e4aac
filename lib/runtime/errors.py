"""Errors whose message a user can act on."""

from __future__ import annotations


class UserError(ValueError):
    """A request that cannot be met; the message says what must hold, what was received and what to do."""
