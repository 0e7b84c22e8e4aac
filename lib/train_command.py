"""`python main.py train STUDIES`: learn from the labels of a folder, alone or under torchrun."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from lib.cases.case import CaseError
from lib.checking import check_site
from lib.command_options import Conf, Studies, console, pairs_of
from lib.progress import progress_bar
from lib.settings import read_settings
from lib.site import Site

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
    from lib.ciml.training import TrainingError
    from lib.ranks import first_rank

    named = {key.strip(): value.strip() for key, _, value in (item.partition("=") for item in conf or [])}
    try:
        with first_rank(named.get("device", "auto")) as first:
            if first:
                site = Site(studies, read_settings(pairs_of(conf)))
                site.validate()
                _train(site, epochs or 0)
    except TrainingError as err:
        raise CaseError(str(err)) from err


def _train(site: Site, epochs: int) -> None:
    from lib.datastores.local import CaseDatastore  # with MONAI Label, takes seconds to import
    from lib.learning import train_site

    if not site.recall_check():
        with progress_bar(console) as tell:
            check_site(site, tell)
    try:
        with progress_bar(console) as tell:
            stats = train_site(site, CaseDatastore(site), epochs=epochs, on_progress=tell)
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
        title=f"CIML as reconstructed from its abstract: {stats['training_cases']} cases learned from, "
        f"{stats['validation_cases']} to validate",
        title_justify="left",
    )
    for column in ("region", "Dice", "surface distance (mm)"):
        table.add_column(column, justify="left" if column == "region" else "right")
    for region, dice in stats["dice_by_region"].items():
        distance = stats["surface_distance_by_region"][region]
        table.add_row(region, f"{dice:.3f}", "-" if distance is None else f"{distance:.1f}")
    return table
