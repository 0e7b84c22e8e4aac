"""Sentence on a choice between several volumes or labels of one case, so that none is made in silence."""

from __future__ import annotations

from collections.abc import Sequence

_LISTED = 5  # names of those that are left out
USED_BEFORE = "it was used before"  # the rule before all others: labels may have been drawn on it


def choice(what: str, taken: str, others: Sequence[str], why: str) -> str:
    """Sentence for the case on which of several is used.

    Args:
        what: What there are several of: a modality, or `label`.
        taken: Name of the one that is used.
        others: Names of the others.
        why: Rule that decided; a clause such as `it comes first by name`.
    """
    named = ", ".join(others[:_LISTED]) + (
        f" and {len(others) - _LISTED} more" if len(others) > _LISTED else ""
    )
    return (
        f"{what}: one of {1 + len(others)} is used, {taken}, because {why}. Left out: {named}. If that is "
        "wrong, keep only the right one in the studies."
    )
