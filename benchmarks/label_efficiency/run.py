"""Label efficiency: how well a network outlines when it is trained on the cases that a strategy chose.

    python -m benchmarks.label_efficiency.run run POOL PROTOCOL --output DIR
    python -m benchmarks.label_efficiency.run run POOL PROTOCOL --output DIR --strategies kmeans --budgets 8
    python -m benchmarks.label_efficiency.run report DIR

PROTOCOL is a YAML file such as `benchmarks/label_efficiency/evidence/sts_ct_mr.yaml`. It contains everything
that decides the outcome and is written before the runs; `evidence.protocol` describes its keys. Test patients
are not used before the end of a training: neither in the contrastive training, nor in the pool check's
estimate of what is usual. All strategies choose from the same scores, which are made once. The seeds of a
strategy vary its random draws and the weights and patches of the training. Strategies that chose the same
cases share a training. Each finished run is a row; an interrupted run starts again.

What was chosen is kept in DIR and holds while the protocol and the patients stay the same, so that the
trainings go on from the rows alone. `--plan-anew` scores and chooses again.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.common.divided_pool import by_hash
from benchmarks.common.revision import git_revision
from benchmarks.label_efficiency.evidence.cells import Cell, Training, cells_of, trainings_of
from benchmarks.label_efficiency.evidence.figure import draw
from benchmarks.label_efficiency.evidence.plan import (
    cells_of_rows,
    described,
    rows_of_cases,
    rows_of_cells,
)
from benchmarks.label_efficiency.evidence.pool import LabelledPool
from benchmarks.label_efficiency.evidence.protocol import Protocol
from benchmarks.label_efficiency.evidence.report import markdown
from benchmarks.label_efficiency.evidence.results import Results
from benchmarks.label_efficiency.evidence.rows import CASES, CELLS, Rows
from benchmarks.label_efficiency.evidence.run import Finished, Study, carry_out, judged, trained
from benchmarks.label_efficiency.evidence.scores import Knowledge, know
from benchmarks.label_efficiency.evidence.strategies import NEEDED_SCORES
from lib.runtime.processes import end_with_the_parent
from lib.views.terminal.progress import progress_bar

PROTOCOL, REPORT, FIGURE = "protocol.yaml", "report.md", "curves.png"
console = Console(width=150)
app = typer.Typer(help="Label efficiency of the strategies.", no_args_is_help=True)

Pool = Annotated[Path, typer.Argument(help="Folder of the cases and their contours.")]
File = Annotated[Path, typer.Argument(help="The protocol, a YAML file.")]
Output = Annotated[Path, typer.Option(help="Folder of the rows and the report.")]
Work = Annotated[
    Path | None, typer.Option(help="Folder for prepared cases and scores; inside output if none.")
]
Jobs = Annotated[int, typer.Option(help="Processes, of one thread each.")]
Device = Annotated[
    str, typer.Option(help="Device of the trainings: cpu, cuda or cuda:N. Scores are made on the CPU.")
]


@app.command()
def run(
    pool: Pool,
    protocol: File,
    output: Output,
    work: Work = None,
    jobs: Jobs = 1,
    device: Device = "cpu",
    strategies: Annotated[str, typer.Option(help="Only these strategies, separated by commas.")] = "",
    budgets: Annotated[str, typer.Option(help="Only these budgets, separated by commas.")] = "",
    plan_only: Annotated[bool, typer.Option(help="Score and choose, but train nothing.")] = False,
    plan_anew: Annotated[bool, typer.Option(help="Score and choose again what was chosen.")] = False,
    revision: Annotated[str, typer.Option(help="Revision of the code, outside a git checkout.")] = "",
) -> None:
    """Score, choose, train and test every run that has no row yet, and report.

    Example: python -m benchmarks.label_efficiency.run run POOL PROTOCOL --output DIR
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the processes that start below
    settings, output = Protocol.read(protocol), output.resolve()
    work = (work or output / "work").resolve()
    rows = Rows(output)
    pools = [LabelledPool(pool.resolve(), settings, work, split) for split in range(settings.splits)]
    kept = output / PROTOCOL
    if plan_anew or not kept.exists() or Protocol.read(kept) != settings:
        rows.plan(CELLS, [])
    output.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(protocol, kept)
    cells = [cell for opened in pools for cell in _planned(opened, rows, jobs)]
    wanted = [cell for cell in cells if _asked(cell, strategies, budgets)]
    digests = tuple(opened.digest for opened in pools)
    study = Study(pool.resolve(), settings, work, digests, revision or git_revision(), device)
    ordered, done = trainings_of(wanted, order_seed=settings.order_seed), rows.finished()
    waiting = [training for training in ordered if study.key(training) not in done]
    console.print(f"{len(wanted)} cells, {len(waiting)} trainings to run")
    failed = 0 if plan_only else _carry_out_all(study, waiting, rows, jobs)
    if not plan_only:
        report(output)
    raise typer.Exit(code=1 if failed else 0)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Folder of the rows.")]) -> None:
    """Print the tables as Markdown and draw the curves, from the rows alone.

    Example: python -m benchmarks.label_efficiency.run report DIR
    """
    results = Results.read(Rows(folder), Protocol.read(folder / PROTOCOL))
    text = markdown(results)
    (folder / REPORT).write_text(text)
    draw(results, folder / FIGURE)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@app.command()
def headroom(
    pool: Pool,
    protocol: File,
    work: Annotated[Path, typer.Argument(help="Folder for prepared cases.")],
    device: Device = "cpu",
) -> None:
    """Print whether more labels raise Dice under the protocol's schedule, among the candidates alone.

    Example: python -m benchmarks.label_efficiency.run headroom POOL PROTOCOL DIR
    """
    settings = Protocol.read(protocol)
    opened = LabelledPool(pool.resolve(), settings, work.resolve())
    asked = tuple(by_hash(opened.candidates)[: settings.headroom.ask])
    rest = [id for id in opened.candidates if id not in asked]
    for seed in range(settings.headroom.seeds):
        order = np.random.default_rng(seed).permutation(rest).tolist()
        for size in settings.headroom.sizes:
            network, loss = trained(opened, tuple(sorted(order[:size])), seed=seed, device=device)
            scores, _ = judged(network, opened, asked, device=device)
            dice = np.mean([each["dice"] for each in scores.values()])
            console.print(f"{size} cases, seed {seed}: Dice {dice:.3f}, last loss {loss:.3f}")


def _planned(opened: LabelledPool, rows: Rows, jobs: int) -> list[Cell]:
    """The cells of a division: those that are kept, or else score the candidates, choose, and keep that."""
    split = opened.split
    kept = [row for row in rows.read(CELLS) if row["split"] == str(split)]
    if kept and {row["digest"] for row in kept} == {opened.digest}:
        console.print(f"division {split + 1}: what was chosen is kept")
        return cells_of_rows(kept)
    known = _known(opened, jobs)
    with progress_bar(console) as tell:
        cases = described(opened, tell)
    planned = cells_of(opened.protocol, known, {id: case.voxels for id, case in cases.items()}, split)
    new = {
        CASES: rows_of_cases(cases, known, split=split),
        CELLS: rows_of_cells(planned, cases, known, digest=opened.digest),
    }
    for name, written in new.items():
        others = [row for row in rows.read(name) if row["split"] != str(split)]
        rows.plan(name, [*others, *written])
    return planned


def _known(opened: LabelledPool, jobs: int) -> dict[bool, Knowledge]:
    """Scores of the candidates after the pool check, and without it where an arm asks for that."""
    known: dict[bool, Knowledge] = {}
    asked = {name for arm in opened.protocol.arms for name in arm.seeds}
    for check in sorted({True, *(arm.check for arm in opened.protocol.arms)}):
        workspace = opened.candidate_site(check=check, workers=jobs)
        console.print(
            f"{len(workspace.verdicts.served)} of {len(opened.candidates)} candidates "
            f"{'after the pool check' if check else 'with the check ignored'}"
        )
        with progress_bar(console) as tell:
            found = know(
                workspace,
                opened.protocol.scoring.settings,
                workspace.folders.work,
                {NEEDED_SCORES[name] for name in asked & NEEDED_SCORES.keys()},
                processes=jobs,
                on_progress=tell,
            )
        known[check] = replace(found, sound_kinds=opened.sound_kinds)
    return known


def _asked(cell: Cell, strategies: str, budgets: str) -> bool:
    return (not strategies or cell.strategy in strategies.split(",")) and (
        not budgets or str(cell.budget) in budgets.split(",")
    )


def _carry_out_all(study: Study, trainings: Sequence[Training], rows: Rows, jobs: int) -> int:
    """Write each run as it finishes, and return how many failed."""
    failed = 0
    columns = TextColumn("trainings"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(trainings))
        start = time.monotonic()
        for number, (training, finished) in enumerate(_finished(study, trainings, jobs), start=1):
            if isinstance(finished, Finished):
                rows.finish(finished.run, finished.patients)
                said = f"Dice {finished.run['dice']:.3f}, {finished.run['seconds']:.0f} s"
            else:
                failed += 1
                said = f"failed: {finished}"
            hours = (time.monotonic() - start) / number * (len(trainings) - number) / 3600
            progress.console.print(
                f"{number} of {len(trainings)}: {len(training.cases)} cases, {said}; {hours:.1f} h left",
                highlight=False, markup=False,
            )  # fmt: skip
            progress.advance(task)
    return failed


def _finished(
    study: Study, trainings: Sequence[Training], jobs: int
) -> Iterator[tuple[Training, Finished | Exception]]:
    """Yield each training as it ends, with its rows or its error; Ctrl-C ends the trainings that run."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=fresh, initializer=_begin) as pool:
        coming = {pool.submit(carry_out, study, each): each for each in trainings}
        try:
            for future in as_completed(coming):
                error = future.exception()
                if error is None:
                    yield coming[future], future.result()
                elif isinstance(error, ValueError | RuntimeError):
                    yield coming[future], error
                else:
                    raise error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _begin() -> None:
    """Prepare a process of the pool: leave Ctrl-C to the parent, and end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_the_parent()


if __name__ == "__main__":
    app()
