"""axe-core, the field's checker of accessibility, from npm."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page

VERSION = "4.14.1"
FOLDER = Path(__file__).parents[2] / "build" / "npm"
SERIOUS = ("serious", "critical")


def serious_findings(page: Page) -> list[str]:
    """What keeps people out of a page as it is now: rule, element and why."""
    page.evaluate(_script())  # as a debugger does: the page's own policy lets no foreign script in
    found = page.evaluate("() => axe.run()")["violations"]
    return [
        f"{each['id']}: {node['html'][:120]} {node['failureSummary']}"
        for each in found
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


def _script() -> str:
    file = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
    if not file.exists():
        npm = shutil.which("npm")
        if npm is None:
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("npm must be installed for this")
        FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [npm, "install", "--silent", "--no-save", "--prefix", str(FOLDER), f"axe-core@{VERSION}"],
            check=True,
        )
    return file.read_text()
