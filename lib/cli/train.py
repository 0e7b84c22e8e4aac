"""`python main.py train STUDIES`: learn from the labels of a folder, alone or under torchrun."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lib.cli.options import Conf, Studies, console, device_among, key_values
from lib.pipeline.checking import check_workspace
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.runtime.words import counted
from lib.views.terminal.progress import progress_bar

EPILOG = (
    "Example: python main.py train samples/sts --epochs 10\n\nOn several GPUs or processes: torchrun "
    "--nproc_per_node=4 main.py train …"
)


def train(
    studies: Studies,
    epochs: Annotated[
        int | None, typer.Option(help="Of this training.", min=1, show_default="--conf train_epochs")
    ] = None,
    conf: Conf = None,
) -> None:
    """Train the folder's model on its final labels, and publish it if it is not worse than the last one."""
    from lib.ciml.training.train import TrainingError
    from lib.runtime.distributed import first_rank

    try:
        with first_rank(device_among(conf)):
            workspace = Workspace(studies, read_settings(key_values(conf)))
            workspace.validate()
            _train(workspace, epochs or 0)
    except TrainingError as err:
        raise UserError(str(err)) from err


def _train(workspace: Workspace, epochs: int) -> None:
    from lib.pipeline.training import train_workspace

    if not workspace.recall_check():
        with progress_bar(console) as tell:
            check_workspace(workspace, tell)
    try:
        with progress_bar(console) as tell:
            stats = train_workspace(workspace, epochs=epochs, on_progress=tell)
    except KeyboardInterrupt:
        console.print("stopped; the next run goes on after the last whole epoch")
        raise
    console.print(training_table(stats))
    verdict = "[green]published[/]" if stats["published"] else "[yellow]not published[/]"
    console.print(f"{verdict}: {escape(stats['message'])}", highlight=False)
    for sentence in stats["warnings"]:
        console.print(f"[yellow]warning: {escape(sentence)}[/]", highlight=False)


def training_table(stats: dict[str, Any]) -> Table:
    """How well each region is outlined on the validation cases."""
    table = Table(
        title=f"CIML as reconstructed from its abstract: {counted(stats['training_cases'])} learned from, "
        f"{stats['validation_cases']} to validate",
        title_justify="left",
    )
    for column in ("region", "Dice", "surface distance (mm)"):
        table.add_column(column, justify="left" if column == "region" else "right")
    for region, dice in stats["dice_by_region"].items():
        distance = stats["surface_distance_by_region"][region]
        table.add_row(region, f"{dice:.3f}", "-" if distance is None else f"{distance:.1f}")
    return table
