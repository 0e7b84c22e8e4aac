"""JSON files among the studies, written by the authors of a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lib.cases.case import CaseError
from lib.cases.formats.file_bytes import regular_file

MAX_JSON_BYTES = 16 * 2**20  # a data set's description lists its files: 2 MB for 10,000 cases


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        CaseError: If the file is missing, too large or not JSON, or gives a name twice; JSON libraries
            silently keep the last one.
    """
    with regular_file(path, str(path)) as file:
        content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise CaseError(
            f"{path} must have at most {MAX_JSON_BYTES:,} bytes; it has more. Is it another file?"
        )
    try:
        return json.loads(content, object_pairs_hook=_once)
    except RecursionError as err:
        raise CaseError(f"{path} must be JSON; it is nested too deeply. Correct it there.") from err
    except UnicodeDecodeError as err:
        raise CaseError(
            f"{path} must be JSON in UTF-8; byte {err.start:,} is not {err.encoding.upper()} (perhaps it was "
            "saved as Latin-1). Save it as UTF-8."
        ) from err
    except ValueError as err:  # not JSON, or a number with thousands of digits
        raise CaseError(f"{path} must be JSON; {err}. Correct it there.") from err


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in content if names.count(name) > 1)
        raise ValueError(f"it gives {twice[:40]!r} twice")
    return content
