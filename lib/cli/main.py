"""`python main.py COMMAND`."""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape

from lib.cases.quality.check import PoolReport
from lib.cli.errors import ending_in_a_sentence
from lib.cli.labels import EPILOG as LABELS_EPILOG
from lib.cli.labels import labels
from lib.cli.options import Command, Conf, Studies, console, device_among, key_values
from lib.cli.report import EPILOG as REPORT_EPILOG
from lib.cli.report import report
from lib.cli.segment import EPILOG as SEGMENT_EPILOG
from lib.cli.segment import segment
from lib.cli.serve import EPILOG as SERVE_EPILOG
from lib.cli.serve import serve
from lib.cli.train import EPILOG as TRAIN_EPILOG
from lib.cli.train import train
from lib.pipeline.checking import check_workspace
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.views.terminal.progress import progress_bar
from lib.views.terminal.tables import check_table, pool_table, series_table, settings_markdown, settings_table

if TYPE_CHECKING:
    from lib.views.exports.plan_files import PlanFiles  # with what selects, takes seconds to import

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="MDAL-CIML: which multimodal cases to label next, and a segmentation that learns from them.",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a bad input ends with its sentence, Ctrl-C and a fault of ours without a traceback.

    Args:
        arguments: Words after the program's name; None takes those that this process was started with.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        with ending_in_a_sentence():
            app(arguments)
    except SystemExit as ended:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # started by torchrun
            _end_at_once(ended.code)
        raise


def _end_at_once(code: int | str | None) -> NoReturn:
    """End this process without taking the interpreter down, which may stop a thread of gloo inside C++.

    torchrun would report that as a failure of a command that did its work.
    """
    atexit._run_exitfuncs()  # as a normal end does
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(bool(code)))


class SelectCommand(Command):
    """Names the strategies when asked for help; to import them takes seconds."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        from lib.mdal.selection.strategies import STRATEGIES

        named = (f"[bold]{each.name}[/]: {escape(each.title)}" for each in STRATEGIES.values())
        self.epilog = "\n\n".join([self.epilog or "", "Strategies", *named])
        super().format_help(ctx, formatter)


@app.command(
    cls=Command,
    epilog="Examples: python main.py check samples/sts --output check.json\n\n"
    "python main.py check http://127.0.0.1:8042/dicom-web --list",
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
    """Find the cases of a folder or a PACS and check them: readable, complete, lying on each other.

    Ends with 0 if every case is served, and with 1 if cases are held back or none was found.
    """
    workspace = Workspace(studies, read_settings(key_values(conf)))
    if background:
        os.nice(19)
        check_workspace(workspace)
        return
    if workspace.folders.in_pacs:
        console.print(series_table(workspace))
    if not only_list:
        _check(workspace)
    console.print(pool_table(workspace))
    if not only_list and workspace.pool.cases:
        console.print(check_table(workspace))
        for sentence in workspace.label_book.notes():
            console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    if output:
        with replacing(output) as part:
            part.write_text(json.dumps(check_document(workspace), indent=1, allow_nan=False))
        console.print(f"written: {output}")
    if not workspace.pool.cases:
        nothing = f"no case was found under {workspace.folders.address}. {workspace.pool.overview}"
        console.print(nothing.strip(), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)
    if not only_list and workspace.verdicts.quarantined:
        raise typer.Exit(1)


@app.command(
    cls=SelectCommand,
    epilog="Example: python main.py select samples/sts --strategy representative --budget 20% "
    "--output plan.csv\n\nOn several GPUs or processes: torchrun --nproc_per_node=4 main.py select …",
)
def select(
    studies: Studies,
    strategy: Annotated[
        str | None, typer.Option(help="Whose order; the names are below.", show_default="representative")
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
        workspace = Workspace(studies, read_settings({"budget": "20%", **key_values(conf), **given}))
        workspace.validate()
        _select(workspace, files, processes or cores())


app.command(cls=Command, epilog=TRAIN_EPILOG)(train)
app.command(cls=Command, epilog=SEGMENT_EPILOG)(segment)
app.command(cls=Command, epilog=REPORT_EPILOG)(report)
app.command(cls=Command, epilog=LABELS_EPILOG)(labels)


@app.command(cls=Command, epilog="Examples: python main.py settings\n\npython main.py settings lease")
def settings(
    word: Annotated[
        str,
        typer.Argument(help="Only the settings whose name or meaning holds this word.", show_default=False),
    ] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="As the table of docs/settings.md.")] = False,
) -> None:
    """List every setting with its default, unit and meaning."""
    if markdown:
        typer.echo(settings_markdown(), nl=False)
    else:
        table = settings_table(word)
        if not table.row_count:
            raise UserError(
                f"a setting must hold the word {word!r}; none does. Leave the word out to see all."
            )
        console.print(table)


app.command(cls=Command, epilog=SERVE_EPILOG)(serve)


def _check(workspace: Workspace) -> None:
    with progress_bar(console) as tell:
        check_workspace(workspace, tell)


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
        "overview": workspace.pool.overview,
        "modalities": list(workspace.pool.modalities),
        **PoolReport(workspace.verdicts.by_case).to_json(),
        "skipped": [{"path": str(item.path), "reason": item.reason} for item in workspace.pool.skipped],
    }


if __name__ == "__main__":
    main()
