"""Where do the places lie that the page marks as those where two modalities differ most?

    python -m benchmarks.mdal.most_different samples/sts

Scores the pool as the server does and looks up the marked place of each case and pair: how much of it is
body, how much of it is inside the expert's outline, and how bright the CT is there.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.common.folders import RESULTS
from benchmarks.common.tables import table_of, write_rows
from lib.cases.formats.image import read_volume, resample
from lib.pipeline.place_differences import place_differences
from lib.pipeline.planning import plan_pool
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.devices import cores
from lib.views.terminal.progress import progress_bar

ROWS = RESULTS / "most_different.csv"
ALL = "all pairs"
AIR_HU = -500.0  # mean of a place in a CT; lung is brighter in part


def marked_places(workspace: Workspace) -> list[dict[str, Any]]:
    """The marked place of each case and pair of a scored pool, and of all pairs together."""
    differences, rows = place_differences(workspace), []
    labels = workspace.labels.labelled()
    for case in workspace.verdicts.served:
        prepared = workspace.cache.get(case)
        outline = None
        if case.id in labels:
            outline = resample(workspace.labels.read(case), prepared.grid, nearest=True).array > 0
        ct = None
        if source := case.modalities.get("CT"):
            ct = resample(read_volume(source), prepared.grid, fill=-1000.0).array
        for pair in (*differences.pairs, None):
            box = differences.most_different(prepared, pair)
            if box is None:
                continue
            body = prepared.foreground[box].mean()
            row: dict[str, Any] = {"case": case.id, "pair": pair or ALL, "body": body}
            row["lesion"] = "" if outline is None else float(outline[box].mean())
            row["CT, HU"] = "" if ct is None else float(ct[box].mean())
            rows.append(row)
    return rows


def main(pool: Annotated[Path, typer.Argument(help="Folder of labelled patients.")]) -> None:
    """Print where the marked places of a pool lie."""
    console = Console()
    with tempfile.TemporaryDirectory() as work, progress_bar(console) as tell:
        workspace = Workspace(pool, read_settings({"work_dir": work}))
        workspace.check()
        plan_pool(workspace, processes=cores(), on_progress=tell)
        rows = marked_places(workspace)
    summaries = [
        {"of": name, **_summary([row for row in rows if (row["pair"] == ALL) == (name == ALL)])}
        for name in ("single pairs", ALL)
    ]
    console.print(table_of(summaries, "Places where the modalities differ most"))
    write_rows(ROWS, rows)


def _summary(rows: list[dict[str, Any]]) -> dict[str, int]:
    in_lesion = [row["lesion"] for row in rows if row["lesion"] != ""]
    return {
        "places": len(rows),
        "mostly in the lesion": sum(share >= 0.5 for share in in_lesion),
        "touch the lesion": sum(share > 0 for share in in_lesion),
        "mostly outside the body": sum(row["body"] < 0.5 for row in rows),
        "in air": sum(row["CT, HU"] != "" and row["CT, HU"] < AIR_HU for row in rows),
    }


if __name__ == "__main__":
    typer.run(main)
