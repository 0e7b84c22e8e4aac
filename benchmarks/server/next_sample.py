"""How long do a start and a Next Sample take on 10,000 cases? MONAI Label's `random` is compared.

Both servers are real processes that are asked over HTTP. Ours serves one folder with two volumes per case and
has a finished plan. The rival is a bare MONAI Label app on its LocalDatastore with one file per case.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import requests
import typer
from rich.console import Console

from benchmarks.common.folders import APP, RESULTS
from benchmarks.common.server import serving
from benchmarks.common.tables import table_of, write_rows
from benchmarks.server.tiny_pools import RIVAL, make_pools
from lib.plan.store import CaseScore, PlanStore

ROWS = RESULTS / "next_sample.csv"


def main(
    cases: Annotated[int, typer.Option(help="Cases in the pool.")] = 10_000,
    calls: Annotated[int, typer.Option(help="Next Samples to measure.")] = 300,
) -> None:
    """Measure both servers: python -m benchmarks.server.next_sample --cases 10000 --calls 300."""
    console, rows = Console(), []
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs, app = (Path(folder) / name for name in ("ours", "theirs", "rival"))
        console.print(f"writing {cases} cases …")
        ids = make_pools(ours, theirs, cases)
        write_plan(ours, ids)
        app.mkdir()
        (app / "main.py").write_text(RIVAL)
        console.print("measuring …")
        rows.append(measure("MDAL-CIML, representative", ours, APP, "representative", calls))
        rows.append(measure("MONAI Label, random", theirs, app, "random", calls))
    console.print(table_of(rows, f"{cases} cases, {calls} Next Samples over HTTP"))
    write_rows(ROWS, rows)


def write_plan(studies: Path, ids: list[str]) -> None:
    """Write a plan as scoring does, with made-up scores; reading it is measured, not making it."""
    rng = np.random.default_rng(0)
    order = [ids[place] for place in rng.permutation(len(ids))]
    details = {"most_different_pair": "CT–PET", "difference_by_pair": {"CT–PET": 0.0}}
    PlanStore.beside(studies / ".mdal").write(
        content="benchmark",
        seed=0,
        about={},
        orders={"representative": order, "mdal": order, "uniform": order},
        scores={id: CaseScore(float(rng.normal()), float(rng.uniform(0, 100)), details) for id in ids},
    )


def measure(name: str, studies: Path, app: Path, strategy: str, calls: int) -> dict[str, str | float]:
    """Row of one server: seconds to its first answer, and milliseconds of the Next Samples."""
    start = time.monotonic()
    with serving(studies, app=app, environment={"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}) as address:
        started = time.monotonic() - start
        session, times = requests.Session(), []
        for call in range(calls):
            before = time.perf_counter()
            answer = session.post(
                f"{address}/activelearning/{strategy}", json={"client_id": f"reader {call % 5}"}
            )
            times.append(1000.0 * (time.perf_counter() - before))
            answer.raise_for_status()
            if not answer.json().get("id"):
                sys.exit(f"{name}: no case was offered at call {call}")
    return {
        "server": name,
        "start s": started,
        "p50 ms": float(np.percentile(times, 50)),
        "p99 ms": float(np.percentile(times, 99)),
        "max ms": max(times),
    }


if __name__ == "__main__":
    typer.run(main)
