"""CIML against fusion: equally large and equally tuned networks, with every choice of modalities.

    python -m benchmarks.ciml.fusion tune POOL PROTOCOL --output DIR --jobs 2
    python -m benchmarks.ciml.fusion run POOL PROTOCOL --output DIR --jobs 2
    python -m benchmarks.ciml.fusion report DIR

PROTOCOL is a YAML file such as `benchmarks/ciml/fusion/brats18.yaml`. It contains everything that decides the
outcome and is written before the runs; `benchmarks.ciml.fusion.protocol` describes its keys, and
`benchmarks.ciml.methods` the networks. `tune` tries the same learning rates and numbers of steps for every
method, on candidates alone; the best goes into the protocol by hand. `run` trains on labelled candidates with
that fixed schedule, without validation, takes the last weights, and only then opens the test patients. A seed
gives every method the same labels, patches, augmentations and dropped modalities. Each finished run is a row;
an interrupted run starts again.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.ciml.fusion.protocol import Protocol
from benchmarks.ciml.fusion.report import Results, markdown
from benchmarks.ciml.fusion.rows import RUNS, TRIALS, Rows
from benchmarks.ciml.fusion.run import Finished, Study, carry_out, runs_of, study_of, trial_of, try_out
from lib.runtime.processes import process_pool

KEPT, REPORT = "protocol.yaml", "report.md"
console = Console(width=160)
app = typer.Typer(help="CIML against fusion.", no_args_is_help=True)

Pool = Annotated[Path, typer.Argument(help="Folder of the cases and their contours.")]
File = Annotated[Path, typer.Argument(help="The protocol, a YAML file.")]
Output = Annotated[Path, typer.Option(help="Folder of the rows and the report.")]
Work = Annotated[Path | None, typer.Option(help="Folder for prepared cases; inside output if none.")]
Keep = Annotated[Path | None, typer.Option(help="Folder for trained networks; none are kept without it.")]
Jobs = Annotated[int, typer.Option(help="Processes, of one thread each.")]
Device = Annotated[str, typer.Option(help="Device: cpu, cuda or cuda:N.")]
Only = Annotated[str, typer.Option(help="Only these methods, separated by commas.")]


@app.command()
def tune(
    pool: Pool, protocol: File, output: Output, work: Work = None, jobs: Jobs = 1, device: Device = "cpu",
    methods: Only = "",
) -> None:  # fmt: skip
    """Try every learning rate and number of steps with every method, on candidates alone, and report.

    Example: python -m benchmarks.ciml.fusion tune POOL benchmarks/ciml/fusion/generated.yaml --output DIR
    """
    settings = Protocol.read(protocol)
    if settings.tuning.pool != settings.name:
        raise typer.BadParameter(
            f"trials for {settings.name} are made on another pool; give the protocol {settings.tuning.pool}."
        )
    study, rows = _study(pool, protocol, output, work, device), Rows(output)
    opened, done = study.open(0), rows.done(TRIALS)
    opened.load(opened.candidates)  # so that no two processes prepare the same case
    waiting = [
        (study, method, trial)
        for trial in study.protocol.tuning.trials
        for method in study.protocol.methods
        if _asked(method, methods)
        and (study.digest(opened, method, trial), method, str(trial.learning_rate), str(trial.steps))
        not in done
    ]
    _end(output, _carry_out_all(try_out, waiting, rows, jobs))


@app.command()
def run(
    pool: Pool, protocol: File, output: Output, work: Work = None, keep: Keep = None, jobs: Jobs = 1,
    device: Device = "cpu", methods: Only = "",
) -> None:  # fmt: skip
    """Train and test every run that has no row yet, and report.

    Example: python -m benchmarks.ciml.fusion run POOL benchmarks/ciml/fusion/brats18.yaml --output DIR
    """
    study, rows = _study(pool, protocol, output, work, device, keep), Rows(output)
    opened = {seed: study.open(seed) for seed in range(study.protocol.seeds)}
    opened[0].load([*opened[0].candidates, *opened[0].tested])
    done = rows.done(RUNS)
    waiting = [
        (study, each)
        for each in runs_of(study.protocol)
        if _asked(each.method, methods)
        and (
            study.digest(opened[each.seed], each.method, trial_of(study.protocol, each.method)),
            each.method, str(each.labels), str(each.seed),
        ) not in done
    ]  # fmt: skip
    _end(output, _carry_out_all(carry_out, waiting, rows, jobs))


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Folder of the rows.")]) -> None:
    """Print the tables as Markdown, from the rows alone.

    Example: python -m benchmarks.ciml.fusion report DIR
    """
    text = markdown(Results.read(Rows(folder), Protocol.read(folder / KEPT)))
    (folder / REPORT).write_text(text)
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _study(
    pool: Path, protocol: Path, output: Path, work: Path | None, device: str, keep: Path | None = None
) -> Study:
    study = study_of(pool, protocol, work=work or output / "work", device=device, keep=keep)
    output.mkdir(parents=True, exist_ok=True)
    if protocol.resolve() != (output / KEPT).resolve():
        shutil.copyfile(protocol, output / KEPT)
    return study


def _asked(method: str, methods: str) -> bool:
    return not methods or method in methods.split(",")


def _carry_out_all(
    do: Callable[..., Finished], waiting: Sequence[tuple[object, ...]], rows: Rows, jobs: int
) -> int:
    """Write the rows of each job as it finishes, and return how many failed."""
    failed, start = 0, time.monotonic()
    console.print(f"{len(waiting)} trainings, {jobs} at a time; an interrupted one starts again")
    with process_pool(jobs) as processes:
        coming = {processes.submit(do, *job): job for job in waiting}
        for number, future in enumerate(as_completed(coming), start=1):
            try:
                finished = future.result()
            except (ValueError, RuntimeError) as err:
                failed += 1
                said = f"{coming[future][1:]} failed: {err}"
            else:
                rows.add(finished.rows)
                said = finished.said
            left = (time.monotonic() - start) / number * (len(waiting) - number) / 60.0
            console.print(f"{number} of {len(waiting)}: {said}; {left:.0f} min left", highlight=False)
    return failed


def _end(output: Path, failed: int) -> None:
    report(output)
    raise typer.Exit(code=1 if failed else 0)


if __name__ == "__main__":
    app()
