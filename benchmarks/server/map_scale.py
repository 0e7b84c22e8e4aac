"""Is the map of the pool usable with 10,000 cases?

    python -m benchmarks.server.map_scale --cases 10000

The cases are real files of 20 x 20 x 10 voxels in CT, PET and MR: a noisy ellipsoid, different in each case.
The pool check runs over all cases. The plan, with a budget of 200 cases, is written as a scoring writes it,
with features in groups and PMI at every position, but nothing is trained. The pictures of the chosen cases
are made beforehand, as a scoring makes them. The server is a real process. The page is in headless Chromium,
which draws without a GPU on the same cores.

First paint is the time from the navigation until the dots are drawn, in a browser with an empty cache; the
first one after the server's start includes reading the plan. A hover is timed from the mouse event until the
frame with the text, or with the picture, is on the screen. Memory is the server's resident set before the
page was opened and after all hovers.

A small volume is prepared almost immediately. The last case is therefore large, with 256 x 256 x 128 voxels
in each modality. A picture of it that does not exist yet is requested from the server directly, first with
nothing prepared and then with the volume prepared.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import requests
import typer
from playwright.sync_api import Page
from rich.console import Console

from benchmarks.common.chromium import chromium
from benchmarks.common.folders import RESULTS
from benchmarks.common.server import serving
from benchmarks.common.tables import table_of, write_rows
from benchmarks.server.map_pool import CONF, fill, planned
from lib.pipeline.workspace import Workspace
from lib.views.pictures.strips import Strips

ROWS = RESULTS / "map_scale.csv"
PAINTS = 5
PATIENCE_S = 20.0
WATCH = """() => {
  const [canvas, card] = ["canvas", ".map-card"].map(part => document.querySelector(part));
  const painted = act => requestAnimationFrame(() => setTimeout(act));
  let [begun, shown] = [0, null];
  canvas.addEventListener("pointermove", event => { begun = event.timeStamp; }, { capture: true });
  new MutationObserver(() => {
    const [id, start] = [card.querySelector("strong")?.textContent, begun];
    if (id && id !== shown?.id) {
      const now = shown = { id, text: null, picture: null };
      painted(() => { now.text = performance.now() - start; });
    }
    if (shown && card.querySelector("img") && !shown.awaited) {
      const now = shown;
      now.awaited = true;
      painted(() => { now.picture = performance.now() - start; });
    }
  }).observe(card, { childList: true, subtree: true });
  window.hovered = () => shown;
}"""

Row = dict[str, str | int | float]


def main(
    cases: Annotated[int, typer.Option(help="Cases in the pool.")] = 10_000,
    hovers: Annotated[int, typer.Option(help="Hovers to measure.")] = 200,
    output: Annotated[Path, typer.Option(help="CSV with one row per quantity.")] = ROWS,
) -> None:
    """Fill a pool, plan it, look at its map: python -m benchmarks.server.map_scale --cases 10000."""
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        studies = Path(name) / "studies"
        console.print(f"writing {cases} cases …")
        fill(studies, cases)
        console.print("checking them and writing the plan …")
        workspace = planned(studies)
        begun = time.monotonic()
        kept = Strips(workspace).keep_chosen()
        console.print(f"{kept} pictures in {time.monotonic() - begun:.0f} s; measuring …")
        rows = measure(workspace, hovers)
    console.print(table_of(rows, f"The map of {cases} cases"))
    write_rows(output, [{"cases": cases, **row, "cores": os.cpu_count() or 0} for row in rows])


def measure(workspace: Workspace, hovers: int) -> list[Row]:
    """Open the map, hover over it, and ask for the picture of a large case."""
    with serving(
        workspace.folders.studies, conf=CONF, environment={"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    ) as address:
        server = listening(address)
        wait_until_idle(server)
        before = server.memory_info().rss
        api = f"{address}/mdal/api"
        paints = [first_paint(address) for _ in range(PAINTS)]
        document = requests.get(f"{api}/map", timeout=60)
        sizes = document.raw.tell() / 1e3, len(document.content) / 1e3
        chosen = set(document.json()["id"][: document.json()["chosen"]])
        with chromium(width=1280, height=900) as window:
            hovered = hover(window.page, address, hovers)
        after = server.memory_info().rss
        states = [timed(f"{api}/states") for _ in range(20)]
        large = f"{api}/cases/{workspace.pool.cases[-1].id}/strip.jpg"
        shutil.rmtree(
            workspace.folders.work / "cache" / workspace.cache.key(workspace.pool.cases[-1]),
            ignore_errors=True,
        )
        shutil.rmtree(workspace.folders.work / "strips")
        unprepared = timed(large)
        shutil.rmtree(workspace.folders.work / "strips")
        prepared = timed(large)
    there = [hover for hover in hovered if hover["id"] in chosen]
    others = [hover for hover in hovered if hover["id"] not in chosen]
    return [
        row("first paint after the server's start", "ms", paints[:1], 2000.0),
        row("first paint", "ms", paints[1:], 2000.0),
        row("hover to text", "ms", [hover["text"] for hover in hovered], 100.0),
        row(
            "hover to picture, of chosen cases: it is there",
            "ms",
            [hover["picture"] for hover in there],
            100.0,
        ),
        row("hover to picture, of others: it is made now", "ms", [hover["picture"] for hover in others]),
        row("picture of a large case, volume prepared", "ms", [prepared]),
        row("picture of a large case, volume not prepared", "ms", [unprepared]),
        row("states, asked every 5 s", "ms", states),
        row("map, compressed", "kB", [sizes[0]]),
        row("map", "kB", [sizes[1]]),
        row("growth of the server's memory", "MB", [(after - before) / 1e6], 200.0),
    ]


def listening(address: str) -> psutil.Process:
    """The process that answers at an address."""
    port = int(address.rsplit(":", 1)[1])
    pid = next(
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
    )
    return psutil.Process(pid)


def wait_until_idle(server: psutil.Process) -> None:
    """Wait until the server has finished the work of its start, for two minutes at most."""
    end = time.monotonic() + 120.0
    while server.cpu_percent(1.0) > 10.0 and time.monotonic() < end:
        pass


def first_paint(address: str) -> float:
    """Milliseconds from the navigation until the dots are drawn."""
    with chromium(width=1280, height=900) as window:
        window.page.goto(f"{address}/mdal/#map")
        return drawn(window.page)


def drawn(page: Page) -> float:
    """Wait until the map is drawn, and return the milliseconds from the navigation."""
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        found = page.evaluate("() => performance.getEntriesByName('map drawn')[0]?.startTime ?? null")
        if found is not None:
            return float(found)
        time.sleep(0.05)
    raise TimeoutError("the map was not drawn in a minute.")


def hover(page: Page, address: str, hovers: int) -> list[dict[str, Any]]:
    """Point at one place after another; return ids and milliseconds until the text and until the picture."""
    page.goto(f"{address}/mdal/#map")
    drawn(page)
    page.evaluate(WATCH)
    box, rng = page.locator("canvas").bounding_box(), np.random.default_rng(1)
    if box is None:
        raise RuntimeError("the map must be on the page; it is not.")
    found: dict[str, dict[str, Any]] = {}
    end = time.monotonic() + hovers
    while len(found) < hovers and time.monotonic() < end:
        x, y = np.clip(rng.normal(0.5, 0.17, 2), 0.02, 0.98)
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        patience = time.monotonic() + PATIENCE_S
        while time.monotonic() < patience:
            shown = page.evaluate("() => window.hovered()")
            if shown is None or shown["id"] in found:
                break  # there is no dot, or one that was measured before
            if shown["picture"] is not None:
                found[shown["id"]] = shown
            time.sleep(0.01)
    return list(found.values())


def timed(url: str) -> float:
    """Milliseconds until the answer is complete."""
    begun = time.perf_counter()
    requests.get(url, timeout=600).raise_for_status()
    return 1000.0 * (time.perf_counter() - begun)


def row(what: str, unit: str, values: list[float], target: float | None = None) -> Row:
    """Row of one quantity."""
    if not values:
        raise RuntimeError(f"{what} must be measured; nothing was. Raise --hovers.")
    median, high = np.percentile(values, [50, 95])
    numbers = {"p50": median, "p95": high, "max": max(values)}
    return {
        "what": what, "unit": unit, "measured": len(values),
        **{name: round(float(value), 1) for name, value in numbers.items()},
        "target": "" if target is None else target,
    }  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
