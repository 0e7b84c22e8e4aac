"""A private Orthanc, and the tests that need one."""

from __future__ import annotations

import os

import pytest

from benchmarks.common.orthanc import MISSING, Orthanc, is_installed, orthanc

__all__ = ["Orthanc", "orthanc", "skip_without_orthanc"]


def skip_without_orthanc() -> None:
    """Skip the test where Orthanc is not installed; with CI=true that is a failure."""
    if not is_installed():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(MISSING)
