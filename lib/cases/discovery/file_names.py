"""What the name of an image file says: the case that it belongs to, and its modality."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from lib.cases.formats.image import stem_of
from lib.cases.modalities import is_label_name, parse_modality

_SEPARATOR = re.compile(r"[_\-. ]")


def name_of(path: Path) -> str:
    """File name without its image suffix; letters with accents as one character, as people type them.

    macOS stores `ü` as `u` and a mark (NFD), everything else as one character (NFC).
    """
    return composed(stem_of(path))


def composed(name: str) -> str:
    """Name with each accented letter as one character (NFC)."""
    return unicodedata.normalize("NFC", name)


def is_known(word: str, extra: tuple[str, ...]) -> bool:
    """Whether a word names a modality or a label."""
    return parse_modality(word, extra) is not None or is_label_name(word)


def split_name(name: str, extra: tuple[str, ...]) -> tuple[str, str] | None:
    """Split a name into what precedes its modality or label, and that word; None if it ends in neither.

    The longest word counts: `p02_x_MR_T1` is `MR_T1` of `p02_x`. `_`, `-`, `.` or a space separates the two.
    """
    if is_known(name, extra):
        return "", name
    for separator in _SEPARATOR.finditer(name):
        first, word = name[: separator.start()].rstrip(" "), name[separator.end() :]
        if first and is_known(word, extra):
            return first, word
    return None


def without_prefix(name: str, prefix: str) -> str | None:
    """Rest of a name that begins with a prefix and a separator; None if it does not."""
    if not name.lower().startswith(prefix.lower()):
        return None
    rest = name[len(prefix) :]
    return rest.lstrip("_-. ") or None if _SEPARATOR.match(rest) else None


def last_word(name: str) -> str:
    """Last word of a name, for a message."""
    return _SEPARATOR.split(name)[-1] or name
