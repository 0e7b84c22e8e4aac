"""How long does a Submit take on 10,000 cases, half of them labelled? An earlier release is compared.

Both servers are real processes that are asked over HTTP, in turns, so that a noisy machine slows both. Each
serves a pool of its own with two tiny volumes a case. Of half of the cases both find the label files that an
earlier release left; the labels that are sent are of the other half.
"""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import requests
import typer
from rich.console import Console

from benchmarks.common.folders import RESULTS, ROOT
from benchmarks.common.server import serving
from benchmarks.common.tables import table_of, write_rows
from benchmarks.server.tiny_pools import make_pools
from lib.cases.case import Source
from lib.cases.formats.image import Volume, read_grid, write_nifti

ROWS = RESULTS / "submit.csv"
ENVIRONMENT = {"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
SEGMENTS = [{"name": "lesion", "idx": 1}]


def main(
    before: Annotated[Path, typer.Option(help="Folder with a checkout of the earlier release.")],
    cases: Annotated[int, typer.Option(help="Cases in the pool.")] = 10_000,
    calls: Annotated[int, typer.Option(help="Submits to measure on each server.")] = 300,
) -> None:
    """Measure both: git worktree add ../old COMMIT; python -m benchmarks.server.submit --before ../old."""
    console, times = Console(), dict[str, list[float]]()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        addresses = dict[str, str]()
        for name, root in (("earlier release", before.resolve()), ("this one", ROOT)):
            studies = Path(folder) / name.replace(" ", "-")
            console.print(f"{name}: writing {cases} cases …")
            ids = make_pools(studies, Path(folder) / f"flat-{len(addresses)}", cases)
            label = write_label(Path(folder), studies / ids[0] / "CT.nii")
            leave_labels(studies, ids[: cases // 2], label)
            start = time.monotonic()
            environment = {**ENVIRONMENT, "PYTHONPATH": str(root)}
            server = serving(studies, app=root / "apps" / "mdal_ciml", cwd=root, environment=environment)
            addresses[name] = servers.enter_context(server)
            console.print(f"{name}: answers after {time.monotonic() - start:.0f} s")
        rng = np.random.default_rng(0)
        for id in rng.permutation(ids[cases // 2 :])[:calls]:
            for name, address in addresses.items():
                times.setdefault(name, []).append(submit(address, str(id), label))
    rows = [row(name, found) for name, found in times.items()]
    console.print(table_of(rows, f"{cases} cases, {calls} Submits over HTTP to each server, in turns"))
    write_rows(ROWS, rows)


def write_label(folder: Path, image: Path) -> Path:
    """Label of 27 voxels on the grid of an image."""
    grid = read_grid(Source(image))
    array = np.zeros(grid.shape, np.uint8)
    array[2:5, 2:5, 2:5] = 1
    write_nifti(Volume(array, grid), folder / "label.nii.gz", durable=False)
    return folder / "label.nii.gz"


def leave_labels(studies: Path, ids: list[str], label: Path) -> None:
    """Write labels as the release before label versions left them."""
    (studies / "labels" / "final").mkdir(parents=True)
    info = {"written": "2026-01-01T00:00:00+00:00", "label_info": SEGMENTS, "client_id": "ann"}
    record = {"image": {"info": {}}, "labels": {"final": {"ext": ".nii.gz", "info": info}}}
    for id in ids:
        (studies / "labels" / "final" / f"{id}.nii.gz").write_bytes(label.read_bytes())
    register = {"name": "", "description": "", "objects": dict.fromkeys(ids, record)}
    (studies / "datastore_v2.json").write_text(json.dumps(register))


def submit(address: str, id: str, label: Path) -> float:
    """Milliseconds of one Submit."""
    params = json.dumps({"client_id": "bob", "label_info": SEGMENTS})
    before = time.perf_counter()
    requests.put(
        f"{address}/datastore/label",
        params={"image": id, "tag": "final"},
        data={"params": params},
        files={"label": (label.name, label.read_bytes())},
        timeout=60,
    ).raise_for_status()
    return 1000.0 * (time.perf_counter() - before)


def row(name: str, times: list[float]) -> dict[str, str | float]:
    """Row of one server."""
    p50, p99 = np.percentile(times, [50, 99])
    return {"server": name, "p50 ms": float(p50), "p99 ms": float(p99), "max ms": max(times)}


if __name__ == "__main__":
    typer.run(main)
