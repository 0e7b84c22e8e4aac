"""`python main.py report STUDIES`: what the page shows, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from lib.cases.case import CaseError
from lib.checking import check_site
from lib.command_options import Conf, Studies, console, pairs_of
from lib.progress import progress_bar
from lib.settings import read_settings
from lib.site import Site

EPILOG = "Example: python main.py report samples/sts --output report.html"


def report(
    studies: Studies,
    output: Annotated[Path, typer.Option(help="File of the report, .html.")] = Path("report.html"),
    conf: Conf = None,
) -> None:
    """Write the plan, its evidence, every case and the pool check into one HTML file that needs no server."""
    if output.suffix.lower() != ".html":
        raise CaseError(f"--output must end in .html; got {str(output)!r}. Try --output report.html.")
    site = Site(studies, read_settings(pairs_of(conf)))
    site.validate()
    from lib.report import write_report  # with MONAI Label, takes seconds to import

    with progress_bar(console) as tell:
        if not site.recall_check():
            check_site(site, lambda done, message: tell(0.5 * done, message))
        write_report(site, output, on_progress=lambda done, message: tell(0.5 + 0.5 * done, message))
    megabytes = output.stat().st_size / 1e6
    console.print(f"written: {escape(str(output))} ({megabytes:.1f} MB)", highlight=False)
