"""`python main.py labels STUDIES`: the versions of the labels, and their index made again from the files."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lib.cli.options import Conf, Studies, console, key_values
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.runtime.words import counted
from lib.views.terminal.progress import progress_bar

EPILOG = (
    "Examples: python main.py labels samples/sts\n\npython main.py labels samples/sts --case STS_002\n\n"
    "python main.py labels samples/sts --rebuild"
)


def labels(
    studies: Studies,
    case: Annotated[
        str | None, typer.Option(help="Show every version of one case.", show_default=False)
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the index in the database again from the label files.")
    ] = False,
    conf: Conf = None,
) -> None:
    """List the labels with their readers and times; no version is ever lost."""
    workspace = Workspace(studies, read_settings(key_values(conf)))
    workspace.validate()
    book = workspace.label_book
    if rebuild:
        with progress_bar(console) as tell:
            number, problems = book.store.log.rebuild(
                lambda done, of: tell(done / of, f"read {done} of {of} versions")
            )
        console.print(f"the index holds {number:,} versions; the files are in {workspace.folders.labels}")
    else:
        problems = book.problems
        console.print(version_table(workspace, case))
    for sentence in [*book.notes(), *(sentence for sentence in problems if sentence not in book.problems)]:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def version_table(workspace: Workspace, case_id: str | None) -> Table:
    """Current label of each case, or every version of one case.

    Raises:
        UserError: If there is no such case.
    """
    log = workspace.labels.log
    if case_id is None:
        versions = [each for _, tags in sorted(log.current.items()) for each in tags.values()]
        title = f"labels of {len(workspace.labels.labelled())} of {counted(len(workspace.pool.cases))}"
    else:
        if case_id not in workspace.pool.by_id and case_id not in log.current:
            raise UserError(f"--case must be the id of a case; got {case_id!r}. `check` lists them.")
        versions, title = log.of_case(case_id), f"versions of the label of {case_id}"
    table = Table(title=title, title_justify="left")
    for column in ("case", "label", "version", "how", "reader", "written (UTC)", "structures"):
        table.add_column(column)
    for each in versions:
        structures = ", ".join(name for name, _ in each.segments)
        written = each.written[:16].replace("T", " ")
        cells = (each.case_id, each.tag, str(each.number), each.kind, each.reader, written, structures)
        table.add_row(*map(escape, cells))
    return table
