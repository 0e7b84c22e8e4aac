"""Revision of the code that made a row."""

from __future__ import annotations

import subprocess

from benchmarks.common.folders import ROOT


def git_revision() -> str:
    """Git revision of this checkout, with `-dirty` if files differ from it; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"
