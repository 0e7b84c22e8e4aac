"""Folders of the project."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
APP = ROOT / "apps" / "mdal_ciml"
SAMPLES = ROOT / "samples" / "sts"
RESULTS = ROOT / "benchmarks" / "results"
