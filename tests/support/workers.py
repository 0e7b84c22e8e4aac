"""How the workers of pytest-xdist share the tests: by whole files, the longest first."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

PAGE = "tests/e2e/test_page"  # the files that begin so share a server


class FileScheduling(LoadScopeScheduling):
    """Gives all tests of a file to one worker, so that what they share is made once."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return PAGE if file.startswith(PAGE) else file


def longest_first(items: list[pytest.Item]) -> None:
    """Order whole files by their marks: a long one that began last would leave the other workers idle."""
    marks = Counter[Path]()
    for item in items:
        marked = [item.get_closest_marker(name) is not None for name in ("slow", "e2e")]
        marks[item.path] = max(marks[item.path], sum(marked))
    items.sort(key=lambda item: -marks[item.path])
