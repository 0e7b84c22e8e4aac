"""Short names for what something was made from."""

from __future__ import annotations

import hashlib
import json


def digest(value: object, *, size: int = 16) -> str:
    """Hash of a value that JSON can hold, the same in every process and release of Python.

    Args:
        value: Its dictionaries are told apart by their order too.
        size: Bytes of the hash; twice as many characters.
    """
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=size).hexdigest()
