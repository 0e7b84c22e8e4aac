"""`python main.py COMMAND`."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import requests
import typer
from rich.markup import escape
from typer.core import TyperCommand

from lib import ROOT
from lib.cases.discovery.studies import REGISTER_FILE
from lib.cases.quality.check import PoolReport
from lib.cli.options import Conf, Studies, console, device_among, pairs_of
from lib.cli.report import EPILOG as REPORT_EPILOG
from lib.cli.report import report
from lib.cli.segment import EPILOG as SEGMENT_EPILOG
from lib.cli.segment import segment
from lib.cli.train import EPILOG as TRAIN_EPILOG
from lib.cli.train import train
from lib.labels.register import Register
from lib.pipeline.checking import check_site
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.server.subprocesses import stop_jobs
from lib.views.terminal.progress import progress_bar
from lib.views.terminal.tables import check_table, pool_table, series_table, settings_table

if TYPE_CHECKING:
    from lib.views.exports.plan_files import PlanFiles  # with what selects, takes seconds to import

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="MDAL-CIML: which multimodal cases to label next, and a segmentation that learns from them.",
)


def main() -> None:
    """Run a command; a bad input ends with its sentence, Ctrl-C without a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app()
    except UserError as err:
        console.print(f"[red]{escape(str(err))}[/]", highlight=False)
        raise SystemExit(2) from err
    except OSError as err:
        console.print(
            f"[red]{escape(str(err))}[/]. Is the folder writable? --conf work_dir=… keeps our files "
            "elsewhere.",
            highlight=False,
        )
        raise SystemExit(2) from err


class SelectCommand(TyperCommand):
    """Names the strategies when asked for help; to import them takes seconds."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        from lib.mdal.selection.strategies import STRATEGIES

        named = (f"[bold]{each.name}[/]: {escape(each.title)}" for each in STRATEGIES.values())
        self.epilog = "\n\n".join([self.epilog or "", "Strategies", *named])
        super().format_help(ctx, formatter)


@app.command(
    epilog="Examples: python main.py check samples/sts --output check.json\n\n"
    "python main.py check http://127.0.0.1:8042/dicom-web --list"
)
def check(
    studies: Studies,
    output: Annotated[
        Path | None, typer.Option(help="Also write the result as JSON.", show_default=False)
    ] = None,
    only_list: Annotated[
        bool, typer.Option("--list", help="Show the cases and stop: nothing is read, or fetched from a PACS.")
    ] = False,
    background: Annotated[bool, typer.Option(hidden=True, help="For the server: quiet and nice.")] = False,
    conf: Conf = None,
) -> None:
    """Find the cases of a folder or a PACS and check them: readable, complete, lying on each other."""
    workspace = Workspace(studies, read_settings(pairs_of(conf)))
    if background:
        os.nice(19)
        check_site(workspace)
        return
    if workspace.folders.in_pacs:
        console.print(series_table(workspace))
    if not only_list:
        _check(workspace)
    console.print(pool_table(workspace))
    if not only_list:
        console.print(check_table(workspace))
    if output:
        with replacing(output) as part:
            part.write_text(json.dumps(check_document(workspace), indent=1, allow_nan=False))
        console.print(f"written: {output}")


@app.command(
    cls=SelectCommand,
    epilog="Example: python main.py select samples/sts --strategy paced --budget 20% "
    "--output plan.csv\n\nOn several GPUs or processes: torchrun --nproc_per_node=4 main.py select …",
)
def select(
    studies: Studies,
    strategy: Annotated[
        str | None, typer.Option(help="Whose order; the names are below.", show_default="paced")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Cases to label: 20, a share such as 20% or 0.2, or plateau.", show_default="20%"),
    ] = None,
    output: Annotated[Path, typer.Option(help="File of the plan, .csv or .json.")] = Path("plan.csv"),
    figure: Annotated[
        Path | None, typer.Option(help="PNG of the plan; beside the output if not given.", show_default=False)
    ] = None,
    no_figure: Annotated[bool, typer.Option("--no-figure", help="Draw no figure.")] = False,
    seed: Annotated[
        int | None, typer.Option(help="Same pool, settings and seed: same plan.", show_default="0")
    ] = None,
    processes: Annotated[int, typer.Option(help="That share the work on a CPU; 0: one a core.", min=0)] = 0,
    conf: Conf = None,
) -> None:
    """Order a folder's cases by which to label first, with no label at all, and write the plan."""
    from lib.runtime.devices import cores
    from lib.runtime.distributed import first_rank
    from lib.views.exports.plan_files import PlanFiles

    with first_rank(device_among(conf)):
        files = PlanFiles(output, None if no_figure else figure or output.with_suffix(".png"))
        options = {"strategy": strategy, "budget": budget, "seed": seed}
        given = {key: str(value) for key, value in options.items() if value is not None}
        workspace = Workspace(studies, read_settings({"budget": "20%", **pairs_of(conf), **given}))
        workspace.validate()
        _select(workspace, files, processes or cores())


app.command(epilog=TRAIN_EPILOG)(train)
app.command(epilog=SEGMENT_EPILOG)(segment)
app.command(epilog=REPORT_EPILOG)(report)


@app.command(epilog="Example: python main.py settings")
def settings() -> None:
    """List every setting with its default, unit and meaning."""
    console.print(settings_table())


@app.command(epilog="Example: python main.py serve samples/sts --conf study_labels=ignore")
def serve(
    studies: Studies,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 serves the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    conf: Conf = None,
) -> None:
    """Serve a folder to 3D Slicer and OHIF: checks the pool, computes the plan, answers Next Sample."""
    from lib.server.boundary.exposure import (  # with FastAPI, takes a second to import
        HOST,
        warning_of_open_door,
    )

    pairs = pairs_of(conf)
    settings = read_settings(pairs)
    workspace = Workspace(studies, settings)
    workspace.validate()  # before anything is started
    Register(workspace.folders.studies / REGISTER_FILE).check()
    if warning := warning_of_open_door(host, require_login=settings.require_login):
        console.print(f"[yellow]{escape(warning)}[/]", highlight=False)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as err:
            raise UserError(
                f"{host}:{port} must be free to listen on; {err}. Choose another --port."
            ) from err
    from monailabel.main import Main  # takes seconds to import; the other commands do without

    arguments = [
        "start_server",
        "--app",
        str(ROOT / "apps" / "mdal_ciml"),
        "--studies",
        workspace.folders.address,
        "--host",
        host,
        "--port",
        str(port),
    ]
    os.environ[HOST] = host
    threading.Thread(target=_announce, args=(host, port), daemon=True).start()
    server = Main()
    options = server.args_parser().parse_args(arguments)
    options.conf = list(pairs.items())  # past its parser, which takes -160,240 for an option
    try:
        server.action_start_server(options)
    finally:
        stop_jobs()


def _check(workspace: Workspace) -> None:
    with progress_bar(console) as tell:
        check_site(workspace, tell)


def _select(workspace: Workspace, files: PlanFiles, processes: int) -> None:
    from lib.pipeline.plan_document import PlanDocument
    from lib.pipeline.planning import plan_pool
    from lib.views.terminal.plan_tables import plan_summary

    if not workspace.recall_check():
        _check(workspace)
    if not workspace.verdicts.served:
        console.print(check_table(workspace))
        raise UserError("at least one case must be usable; all are in quarantine. Look at the reasons above.")
    try:
        with progress_bar(console) as tell:
            plan_pool(workspace, processes=processes, on_progress=tell)
    except KeyboardInterrupt:
        console.print("stopped; the next run goes on where this one stopped")
        raise
    document = PlanDocument.read(workspace)
    written = files.write(document, workspace)
    console.print(plan_summary(document))
    for file in written:
        console.print(f"written: {file}", markup=False, highlight=False, soft_wrap=True)


def check_document(workspace: Workspace) -> dict[str, Any]:
    """Result of the pool check as JSON: every case, its state and the measured reasons."""
    return {
        "studies": workspace.folders.address,
        "layout": workspace.pool.layout,
        "modalities": list(workspace.pool.modalities),
        **PoolReport(workspace.verdicts.by_case).to_json(),
        "skipped": [{"path": str(item.path), "reason": item.reason} for item in workspace.pool.skipped],
    }


def _announce(host: str, port: int) -> None:
    """Say where to go once the server answers, and when the plan is there."""
    address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    told = ""
    while True:
        time.sleep(1.0)
        try:
            progress = requests.get(f"{address}/info/", timeout=30).json()["scoring"]["mdal"]["progress"]
        except (requests.RequestException, ValueError, KeyError):
            continue
        if not told:
            told = "serving"
            console.print(
                f"\n[bold green]serving[/] on {address}\n"
                f"  1. 3D Slicer: extension MONAI Label, server {address}, Next Sample\n"
                f"  2. OHIF, with a DICOMweb server: {address}/ohif/\n"
                f"  3. the plan, the cases, the pool check: {address}/mdal/\n"
                f"  4. the interface, with every call to try: {address}/\n"
            )
        if progress.get("state") in ("done", "failed", "interrupted"):
            console.print(
                f"[bold]plan[/]: {progress['message']}; Next Sample is answered by it"
                if progress["state"] == "done"
                else f"[red]no plan[/]: {progress['message']}"
            )
            return


if __name__ == "__main__":
    main()
