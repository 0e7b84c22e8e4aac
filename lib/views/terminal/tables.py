"""Tables for the terminal: the pool, its check, the settings."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from lib.cases.dicomweb.mirror import RemoteSeries
from lib.cases.pool import Pool, Skipped
from lib.pipeline.settings import SECTIONS, AppSettings, unit_of
from lib.pipeline.workspace import Workspace
from lib.runtime.words import counted

_MARKS = {"ok": "[green]ok[/]", "warned": "[yellow]warned[/]", "quarantined": "[red]quarantined[/]"}
_ALIKE = 3  # skipped files that share a reason and still have a line each
_LISTED = 40  # rows of a table; the rest are only counted


def pool_table(workspace: Workspace) -> Table:
    """Table of the pool in one row, with the skipped files as caption."""
    pool, states = workspace.pool, Counter(verdict.status for verdict in workspace.verdicts.by_case.values())
    table = Table(title=f"Pool {workspace.folders.address}", title_justify="left", caption_justify="left")
    for column in ("layout", "cases", "modalities", "incomplete", "warned", "quarantined", "skipped"):
        table.add_column(column, overflow="fold")
    table.add_row(
        pool.layout,
        str(len(pool.cases)),
        ", ".join(pool.modalities),
        str(len(pool.incomplete)),
        str(states["warned"]),
        str(len(workspace.verdicts.quarantined)),
        str(len(pool.skipped)),
    )
    if pool.skipped:
        table.caption = escape("\n".join(_skipped(pool)))
    return table


def _skipped(pool: Pool) -> list[str]:
    """A line per skipped file, and one line for files that share a reason; for a PACS a line per reason."""
    if pool.layout == "dicomweb":
        alike = Counter(item.reason for item in pool.skipped).most_common()
        lines = [f"left out {count} x {reason}" for reason, count in alike]
    else:
        by_reason: dict[str, list[Skipped]] = defaultdict(list)
        for item in pool.skipped:
            by_reason[item.reason].append(item)
        lines = [line for items in by_reason.values() for line in _alike(items)]
    return lines[:_LISTED] + ([f"… and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else [])


def _alike(items: Sequence[Skipped]) -> list[str]:
    """Lines of skipped files that share a reason."""
    if len(items) <= _ALIKE:
        return [f"skipped {item}" for item in items]
    return [f"skipped {len(items):,} files, such as {items[0]}"]


def series_table(workspace: Workspace) -> Table:
    """Table of the PACS series that became the modalities of each case."""
    rows = [
        (case.id, name, source.found)
        for case in workspace.pool.cases
        for name, source in case.modalities.items()
        if isinstance(source, RemoteSeries)
    ]
    table = Table(
        title=f"Series of {workspace.folders.address}", title_justify="left", caption_justify="left"
    )
    for column in ("case", "modality", "series", "DICOM", "slices", "made"):
        table.add_column(column, overflow="fold", no_wrap=column in ("modality", "DICOM"))
    previous = ""
    for id, name, found in rows[:_LISTED]:
        shown, previous = "" if id == previous else id, id
        table.add_row(
            shown, name, escape(found.description), found.modality, str(found.instances), found.made[:8]
        )
    if len(rows) > _LISTED:
        table.caption = f"… and {len(rows) - _LISTED} more; --output FILE writes all"
    return table


def check_table(workspace: Workspace) -> Table:
    """Table of the warned and quarantined cases, with the reasons."""
    table = Table(title="Pool check", title_justify="left", caption_justify="left")
    table.add_column("case", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("why", overflow="fold")
    flagged = {id: verdict for id, verdict in workspace.verdicts.by_case.items() if verdict.status != "ok"}
    for id, verdict in sorted(flagged.items(), key=lambda item: (item[1].status, item[0]))[:_LISTED]:
        state = _MARKS[verdict.status] + (" (released)" if id in workspace.verdicts.released else "")
        table.add_row(
            id, state, "\n".join(finding.sentence for finding in verdict.findings).replace("[", r"\[")
        )
    if len(flagged) > _LISTED:
        table.caption = f"… and {len(flagged) - _LISTED} more; --output FILE writes all"
    if not workspace.verdicts.by_case:
        table.add_row("none", "", f"no case was found under {workspace.folders.address}")
    elif not flagged:
        table.add_row("all", _MARKS["ok"], f"{counted(len(workspace.verdicts.by_case))}, no findings")
    return table


def settings_table(wanted: str = "") -> Table:
    """Table of the `--conf` keys whose name or meaning holds a word, in groups."""
    table = Table(title="Settings: --conf KEY=VALUE", title_justify="left")
    for column in ("key", "default", "unit", "meaning"):
        table.add_column(column, overflow="fold", no_wrap=column == "key")
    for key, field in AppSettings.model_fields.items():
        if key in SECTIONS and not wanted:
            table.add_section()
            table.add_row(f"[bold]{SECTIONS[key]}[/]")
        if wanted.casefold() in f"{key} {field.description}".casefold():
            table.add_row(key, _shown(field.default), unit_of(key), field.description)
    return table


def settings_markdown() -> str:
    """The same table for docs/settings.md."""
    rows = [
        f"`{key}` | `{_shown(field.default)}` | {unit_of(key)} | {field.description}"
        for key, field in AppSettings.model_fields.items()
    ]
    return "\n".join(["key | default | unit | meaning", "---|---|---|---", *rows]) + "\n"


def as_text(content: RenderableType, *, width: int = 140) -> str:
    """Render a table as plain text, for a log."""
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(content)
    return stream.getvalue()


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value) or "(empty)"
    return str(value).lower() if isinstance(value, bool) else str(value) or "(empty)"
