"""`python main.py segment STUDIES`: a folder's cases by its trained model, alone or under torchrun."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from lib.cases.case import Case
from lib.cli.options import Conf, Studies, console, device_among, key_values
from lib.pipeline.checking import check_workspace
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.csv_table import write_csv
from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.runtime.words import counted
from lib.views.terminal.progress import progress_bar

EPILOG = (
    "Example: python main.py segment samples/sts --output segmentations\n\nOn several GPUs: torchrun "
    "--nproc_per_node=4 main.py segment …"
)
SUMMARY = "summary.csv"
LOOKED_AT = 3  # cases named at the end


def segment(
    studies: Studies,
    output: Annotated[
        Path, typer.Option(help="Folder of the label files, their figures and the summary.")
    ] = Path("segmentations"),
    case: Annotated[
        list[str] | None, typer.Option(help="Only this case; may be repeated.", show_default=False)
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also write which modality said what: maps and a picture.")
    ] = False,
    export_values: Annotated[
        bool,
        typer.Option(
            "--export-values", help="Write the values of the edition of BraTS, or of the export map."
        ),
    ] = False,
    background: Annotated[bool, typer.Option(hidden=True, help="For the server: quiet and nice.")] = False,
    conf: Conf = None,
) -> None:
    """Segment a folder's cases with its trained model; what is done already is skipped."""
    from lib.runtime.distributed import first_rank

    if background:
        _prefetch(Workspace(studies, read_settings(key_values(conf))), case or [])
        return
    with first_rank(device_among(conf)):
        workspace = Workspace(studies, read_settings(key_values(conf)))
        workspace.validate()
        failed = _segment(workspace, output, case or [], explain=explain, export_values=export_values)
        if failed:
            raise typer.Exit(1)


def _segment(
    workspace: Workspace, output: Path, names: Sequence[str], *, explain: bool, export_values: bool
) -> dict[str, str]:
    """Segment what is not done yet and write the summary; why a case failed, by its id."""
    import torch

    from lib.runtime.devices import device_of
    from lib.runtime.distributed import share_out
    from lib.views.exports.label_files import LabelFiles

    if not workspace.recall_check():
        with progress_bar(console) as tell:
            check_workspace(workspace, tell)
    cases = _chosen(workspace, names)
    threads = torch.get_num_threads()
    job = LabelFiles(
        workspace.folders.address, workspace.settings, output.resolve(), threads, explain, export_values
    )
    todo = {case.id for case in cases if not job.is_done(case)}
    pieces = [place for place, case in enumerate(workspace.verdicts.served) if case.id in todo]
    try:
        with progress_bar(console) as tell:
            share_out(
                job,
                pieces,
                device=device_of(workspace.settings.device),
                on_progress=lambda done: tell(done, f"{done * len(pieces):.0f} of {counted(len(pieces))}"),
            )
    except KeyboardInterrupt:
        console.print("stopped; the next run goes on with what is not done")
        raise
    figures = [job.figures(case) for case in cases]
    _write_summary(output / SUMMARY, figures)
    failed = {row["case"]: row["error"] for row in figures if "error" in row}
    for id, reason in failed.items():
        console.print(f"[red]{escape(id)} failed[/]: {escape(reason)}", highlight=False)
    console.print(
        f"{counted(len(pieces) - len(failed))} segmented, {len(cases) - len(pieces)} done already, "
        f"{len(failed)} failed: {escape(str(output))}",
        highlight=False,
    )
    if first := _look_first(figures):
        console.print(escape(first), highlight=False)
    return failed


def _look_first(figures: Sequence[dict[str, Any]]) -> str:
    """Sentence on the cases whose label needs a look most; empty where there is nothing to choose from."""
    sure = sorted(
        (row for row in figures if "uncertainty_nats" in row), key=lambda row: -row["uncertainty_nats"]
    )
    if len(sure) < 2:
        return ""
    named = ", ".join(f"{row['case']} ({row['uncertainty_nats']:.3f})" for row in sure[:LOOKED_AT])
    return (
        f"Look first at {named}: the model is least sure there (entropy in nats a voxel of the body; "
        f"{sure[len(sure) // 2]['uncertainty_nats']:.3f} in the middle of these {counted(len(sure))})."
    )


def _chosen(workspace: Workspace, names: Sequence[str]) -> list[Case]:
    """The cases that are asked for, all by default; there must be a model to ask.

    Raises:
        UserError: If a name is none, or no model is trained yet.
    """
    if workspace.models.current() is None:
        raise UserError(
            f"a model must have been trained; there is none in {workspace.folders.work}. "
            f"Label cases, then run: python main.py train {workspace.folders.address}"
        )
    asked = {workspace.verdicts.resolve(name)[0].id for name in names}
    return [case for case in workspace.verdicts.served if case.id in asked or not names]


def _prefetch(workspace: Workspace, names: Sequence[str]) -> None:
    """In the process that a server started: fill the cache."""
    from lib.pipeline.segmentation import Segmenter
    from lib.runtime.devices import spare_cores

    os.nice(19)
    import torch

    torch.set_num_threads(spare_cores())
    segmenter = Segmenter(workspace)
    for name in names:
        try:
            segmenter.segment(workspace.verdicts.resolve(name)[0], prefetching=True)
        except UserError as err:
            console.print(f"{name}: {err}", markup=False, highlight=False)


def _write_summary(path: Path, figures: Sequence[dict[str, Any]]) -> None:
    """One row a case: volumes, uncertainty and Shapley values, or why it failed."""
    rows = [_flat(row) for row in figures]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with replacing(path) as part, part.open("w", newline="") as stream:
        write_csv(stream, columns, rows)


def _flat(figures: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {key: figures[key] for key in ("case", "error", "version") if key in figures}
    row |= {f"{name} ml": round(volume, 3) for name, volume in figures.get("volumes_ml", {}).items()}
    row |= {f"{name} ml": round(volume, 3) for name, volume in figures.get("region_volumes_ml", {}).items()}
    if "uncertainty_nats" in figures:
        row["uncertainty nats"] = round(figures["uncertainty_nats"], 5)
        row["modalities used"] = " ".join(figures["modalities_used"])
    row |= {f"{name} Shapley": round(value, 4) for name, value in figures.get("shapley", {}).items()}
    return row
