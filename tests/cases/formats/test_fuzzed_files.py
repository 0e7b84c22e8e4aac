"""Damaged image files, from fixed seeds: each is refused with a sentence, or read within bounds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_of_416_damaged_files_none_is_read_wrong_and_none_costs_a_gigabyte_or_ten_seconds(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "tests.support.mutants", str(tmp_path), "416"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=120)
    result = json.loads(done.stdout)
    assert result["uncaught"] == []
    assert result["slowest_s"] < 10.0
    assert result["added_mb"] < 1000
    assert sum(result["outcome"].values()) == result["mutants"] == 416
    assert result["outcome"]["bomb refused"] == result["outcome"]["cut refused"] == 52
