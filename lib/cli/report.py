"""`python main.py report STUDIES`: what the page shows, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lib.cli.options import Conf, Studies, console, key_values
from lib.pipeline.checking import check_workspace
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.runtime.progress import stage_of
from lib.views.terminal.progress import progress_bar

EPILOG = "Example: python main.py report samples/sts --output report.html"


def report(
    studies: Studies,
    output: Annotated[Path, typer.Option(help="File of the report, .html.")] = Path("report.html"),
    conf: Conf = None,
) -> None:
    """Write the plan, its evidence, every case and the pool check into one HTML file that needs no server."""
    if output.suffix.lower() != ".html":
        raise UserError(f"--output must end in .html; got {str(output)!r}. Try --output report.html.")
    workspace = Workspace(studies, read_settings(key_values(conf)))
    workspace.validate()
    from lib.views.exports.report import write_report  # with MONAI Label, takes seconds to import

    with progress_bar(console) as tell:
        if not workspace.recall_check():
            check_workspace(workspace, stage_of(tell, 0.0, 0.5))
        write_report(workspace, output, on_progress=stage_of(tell, 0.5, 1.0))
    megabytes = output.stat().st_size / 1e6
    console.print(f"written: {escape(str(output))} ({megabytes:.1f} MB)", highlight=False)
