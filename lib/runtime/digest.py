"""Short hashes that identify the inputs of a result."""

from __future__ import annotations

import hashlib
import json


def digest(value: object, *, size: int = 16) -> str:
    """Hash of a JSON value, the same in every process and release of Python.

    Args:
        value: JSON value; two dictionaries in different order have different hashes.
        size: Bytes of the hash; the text has twice as many characters.
    """
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=size).hexdigest()
