"""`python main.py serve STUDIES`: the server, and the progress of the check and the plan in its terminal."""

from __future__ import annotations

import os
import threading
from typing import Annotated, Any

import requests
import typer
from rich.markup import escape

from lib import ROOT
from lib.cases.discovery.studies import REGISTER_FILE
from lib.cli.listening import address_of, check_listening
from lib.cli.options import Conf, Studies, console, key_values
from lib.labels.register import Register
from lib.pipeline.checking import CHECK_JOB
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.progress import OnProgress
from lib.views.terminal.progress import progress_bar

EPILOG = "Example: python main.py serve samples/sts --conf study_labels=ignore"
_ENDED = ("done", "failed", "interrupted")
_LOOK_S = 1.0


def serve(
    studies: Studies,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 serves the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65_535)] = 8000,
    conf: Conf = None,
) -> None:
    """Serve a folder to 3D Slicer and OHIF: checks the pool, computes the plan, answers Next Sample."""
    from lib.server.boundary.exposure import (  # with FastAPI, takes a second to import
        HOST,
        warning_of_open_door,
    )
    from lib.server.subprocesses import stop_jobs
    from lib.server.tasks.progress_log import SHOWN
    from lib.server.upstream.quiet_logs import quiet_logs

    pairs = key_values(conf)
    settings = read_settings(pairs)
    workspace = Workspace(studies, settings)
    workspace.validate()  # before anything is started
    Register(workspace.folders.labels.with_name(REGISTER_FILE)).check()
    if warning := warning_of_open_door(host, require_login=settings.require_login):
        console.print(f"[yellow]{escape(warning)}[/]", highlight=False)
    check_listening(host, port)
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
    os.environ[SHOWN] = "1"
    quiet_logs()
    address, ended = address_of(host, port), threading.Event()
    announcing = threading.Thread(target=_announce, args=(workspace, address, ended), daemon=True)
    announcing.start()
    server = Main()
    options = server.args_parser().parse_args(arguments)
    options.conf = list(pairs.items())  # past its parser, which takes -160,240 for an option
    try:
        server.action_start_server(options)
    finally:
        ended.set()
        announcing.join(timeout=5.0)  # so that the terminal has its cursor again
        stop_jobs()


def _announce(workspace: Workspace, address: str, ended: threading.Event) -> None:
    """Show the progress of the check and of the plan, and where to go once the server answers.

    Args:
        workspace: Its database holds the progress of the check.
        address: Of the server.
        ended: Set when the server ended.
    """
    with progress_bar(console) as show:
        while _scoring(address) is None:
            _show(workspace.plan.progress(CHECK_JOB), show)
            if ended.wait(_LOOK_S):
                return
    console.print(
        f"\n[bold green]serving[/] on {address}\n"
        f"  1. 3D Slicer: extension MONAI Label, server {address}, Next Sample\n"
        f"  2. OHIF, with a DICOMweb server: {address}/ohif/\n"
        f"  3. the plan, the cases, the pool check: {address}/mdal/\n"
        f"  4. the interface, with every call to try: {address}/\n"
    )
    with progress_bar(console) as show:
        while (scoring := _scoring(address) or {}).get("state") not in _ENDED:
            _show(scoring, show)
            if ended.wait(_LOOK_S):
                return
    console.print(
        f"[bold]plan[/]: {scoring['message']}; Next Sample is answered by it"
        if scoring["state"] == "done"
        else f"[red]no plan[/]: {scoring['message']}"
    )


def _show(progress: dict[str, Any], show: OnProgress) -> None:
    if progress.get("state") == "running":
        show(progress["done"], progress["message"])


def _scoring(address: str) -> dict[str, Any] | None:
    """Progress of the scoring; None while the server does not answer."""
    try:
        progress = requests.get(f"{address}/info/", timeout=30).json()["scoring"]["mdal"]["progress"]
    except (requests.RequestException, ValueError, KeyError):
        return None
    return dict(progress)
