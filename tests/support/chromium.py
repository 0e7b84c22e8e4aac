"""Headless Chromium, and the tests that need one."""

from __future__ import annotations

import os

import pytest

from benchmarks.common.chromium import MISSING, Window, chromium, is_installed

__all__ = ["Window", "chromium", "skip_without_chromium"]


def skip_without_chromium() -> None:
    """Skip the test where Chromium is not installed; with CI=true that is a failure."""
    if not is_installed():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(MISSING)
