"""Do annotators who ask at the same time ever hold the same case? MONAI Label's `random` is compared.

Each annotator is a process of its own. It asks for a case, holds it for a moment, labels three of four cases
and skips the fourth. A case counts as held twice when two annotators hold it at the same time, and as
labelled twice when two labels of it were saved.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import nibabel as nib
import numpy as np
import requests
import typer
from rich.console import Console

from benchmarks.common.folders import RESULTS
from benchmarks.common.postgresql import postgresql
from benchmarks.common.server import serving
from benchmarks.common.tables import table_of, write_rows
from benchmarks.server.tiny_pools import RIVAL, make_pools
from lib.plan.store import CaseScore, PlanStore

ROWS = RESULTS / "annotators.csv"
HOLD_S = 0.1  # time for which an annotator looks at a case
PASSED_OVER = 4  # every fourth case is not labelled


@dataclass(frozen=True)
class Work:
    """Work of one annotator.

    Attributes:
        address: Address of the server.
        strategy: Strategy that the annotator asks for.
        annotator: Name of the annotator.
        calls: Number of Next Samples.
        label: Label file to submit.
    """

    address: str
    strategy: str
    annotator: str
    calls: int
    label: Path


@dataclass(frozen=True)
class Hold:
    """A case held by an annotator; all times, in s, come from one clock for all processes of the machine.

    Attributes:
        case_id: Id of the case; None if the server had none.
        annotator: Name of the annotator who holds the case.
        asked: Time of the request.
        since: Time of the answer.
        until: Time at which the label was saved or the case was skipped.
        labelled: Whether the annotator labelled the case.
        failed: Whether the server answered with an error.
    """

    case_id: str | None
    annotator: str
    asked: float
    since: float
    until: float
    labelled: bool
    failed: bool = False


def main(
    cases: Annotated[int, typer.Option(help="Cases in the pool.")] = 600,
    clients: Annotated[int, typer.Option(help="Annotators, one process each.")] = 8,
    calls: Annotated[int, typer.Option(help="Next Samples of each annotator.")] = 200,
) -> None:
    """Let annotators ask at once: python -m benchmarks.server.annotators --cases 600 --clients 8."""
    console, rows = Console(width=110), []  # wide enough for the whole table
    servers = {
        "MDAL-CIML, SQLite": ours,
        "2 × MDAL-CIML, PostgreSQL": ours_on_postgresql,
        "MONAI Label, random": rival,
    }
    for name, start in servers.items():
        with tempfile.TemporaryDirectory() as folder:
            console.print(f"measuring {name} …")
            with start(Path(folder), cases) as (addresses, strategy):
                label = write_label(Path(folder))
                holds = annotate(addresses, strategy, label, clients, calls)
            rows.append({"server": name, **summary(holds)})
    console.print(table_of(rows, f"{clients} annotators, {calls} Next Samples each, {cases} cases"))
    write_rows(ROWS, rows)


@contextmanager
def ours(folder: Path, cases: int) -> Iterator[tuple[list[str], str]]:
    """Start one server with its plan beside the studies."""
    with _planned(folder, cases, servers=1) as addresses:
        yield addresses, "representative"


@contextmanager
def ours_on_postgresql(folder: Path, cases: int) -> Iterator[tuple[list[str], str]]:
    """Start two servers of the same studies that share a database."""
    with postgresql() as url, _planned(folder, cases, servers=2, database_url=url) as addresses:
        yield addresses, "representative"


@contextmanager
def rival(folder: Path, cases: int) -> Iterator[tuple[list[str], str]]:
    """Start a bare MONAI Label app on its own datastore with one file per case."""
    make_pools(folder / "ours", folder / "theirs", cases)
    (folder / "app").mkdir()
    (folder / "app" / "main.py").write_text(RIVAL)
    with serving(folder / "theirs", app=folder / "app", environment=_QUIET) as address:
        yield [address], "random"


def annotate(addresses: Sequence[str], strategy: str, label: Path, clients: int, calls: int) -> list[Hold]:
    """Let annotators work at the same time, spread over the servers; return every case that they held."""
    context = get_context("spawn")
    work = [
        Work(addresses[number % len(addresses)], strategy, f"annotator {number}", calls, label)
        for number in range(clients)
    ]
    with context.Manager() as manager, ProcessPoolExecutor(clients, context) as processes:
        start = manager.Barrier(clients)
        tasks = [processes.submit(_annotate, one, start) for one in work]
        return [hold for task in tasks for hold in task.result()]


def held_twice(holds: Sequence[Hold]) -> int:
    """Number of times that a case was given to an annotator while another annotator held it."""
    ends: dict[str, tuple[float, str]] = {}
    twice = 0
    for hold in sorted((hold for hold in holds if hold.case_id), key=lambda hold: hold.since):
        case = str(hold.case_id)
        until, whose = ends.get(case, (0.0, hold.annotator))
        twice += hold.since < until and whose != hold.annotator
        ends[case] = max((until, whose), (hold.until, hold.annotator))
    return twice


def labelled_twice(holds: Sequence[Hold]) -> int:
    """Number of labels of cases that already had one, which is wasted work."""
    return sum(count - 1 for count in Counter(hold.case_id for hold in holds if hold.labelled).values())


def summary(holds: Sequence[Hold]) -> dict[str, Any]:
    """Row of one server."""
    given = [hold for hold in holds if hold.case_id]
    times = [1000.0 * (hold.since - hold.asked) for hold in given]
    return {
        "calls": len(holds),
        "errors": sum(hold.failed for hold in holds),
        "given": len(given),
        "s": max(hold.until for hold in holds) - min(hold.asked for hold in holds),
        "p50 ms": float(np.percentile(times, 50)),
        "p99 ms": float(np.percentile(times, 99)),
        "held twice": held_twice(holds),
        "labelled": len({hold.case_id for hold in given if hold.labelled}),
        "labelled twice": labelled_twice(holds),
    }


def write_label(folder: Path) -> Path:
    """A label on the grid of the pools' cases."""
    array = np.zeros((8, 8, 8), dtype=np.uint8)
    array[2:4, 2:4, 2:4] = 1
    path = folder / "label.nii.gz"
    nib.save(nib.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return path


_QUIET = {"MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}  # the plan exists already; making it is not measured


@contextmanager
def _planned(folder: Path, cases: int, *, servers: int, **conf: str) -> Iterator[list[str]]:
    studies = folder / "ours"
    ids = make_pools(studies, folder / "theirs", cases)
    store = PlanStore(conf["database_url"]) if conf else PlanStore.beside(studies / ".mdal")
    generator = np.random.default_rng(0)
    order = [ids[place] for place in generator.permutation(cases)]
    scores = {id: CaseScore(float(generator.normal()), float(generator.uniform(0, 100))) for id in ids}
    store.write(content="benchmark", seed=0, about={}, orders={"representative": order}, scores=scores)
    store.close()
    with ExitStack() as stack:
        yield [
            stack.enter_context(serving(studies, conf=conf, log=folder / f"{number}.log", environment=_QUIET))
            for number in range(servers)
        ]


def _annotate(work: Work, start: Any) -> list[Hold]:
    label, holds = work.label.read_bytes(), []
    start.wait()
    for call in range(work.calls):
        asked = time.monotonic()
        answer = requests.post(  # a connection for each call, as Slicer's client does
            f"{work.address}/activelearning/{work.strategy}", json={"client_id": work.annotator}, timeout=120
        )
        since = time.monotonic()
        case = answer.json().get("id") if answer.ok else None
        labels = bool(case) and call % PASSED_OVER < PASSED_OVER - 1
        if case:
            time.sleep(HOLD_S)
        if labels:
            requests.put(
                f"{work.address}/datastore/label?image={case}&tag=final",
                files={"label": ("label.nii.gz", label)},
                timeout=120,
            ).raise_for_status()
        holds.append(Hold(case, work.annotator, asked, since, time.monotonic(), labels, not answer.ok))
    return holds


if __name__ == "__main__":
    typer.run(main)
