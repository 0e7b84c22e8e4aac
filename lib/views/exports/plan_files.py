"""Files of a plan."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lib.pipeline.plan_document import PlanDocument
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.runtime.files import replacing

_SUFFIXES = {"output": (".csv", ".json"), "figure": (".png",)}


@dataclass(frozen=True)
class PlanFiles:
    """A plan as a table or a document, and as a figure.

    Attributes:
        output: Path of the table, `.csv`, or the document, `.json`.
        figure: Path of the figure, `.png`; None for no figure.
    """

    output: Path
    figure: Path | None

    def __post_init__(self) -> None:
        """Refuse a path now that could not be written after the scoring."""
        for option, path in self._named():
            if path.suffix.lower() not in _SUFFIXES[option]:
                raise UserError(
                    f"--{option} must end in {' or '.join(_SUFFIXES[option])}; got {str(path)!r}. "
                    f"Try --{option} plan{_SUFFIXES[option][0]}."
                )
            folder = next(parent for parent in path.absolute().parents if parent.exists())
            if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
                raise UserError(
                    f"--{option} must be a file that can be written; got {str(path)!r}. Choose another."
                )

    def write(self, document: PlanDocument, workspace: Workspace) -> list[Path]:
        """Write the files, each atomically; returns their paths."""
        as_table = self.output.suffix.lower() == ".csv"
        with replacing(self.output) as part:
            part.write_text(
                document.to_csv() if as_table else document.to_json(), encoding="utf-8", newline=""
            )
        if self.figure:
            from lib.views.pictures.plan_figure import write_figure  # matplotlib takes seconds to import

            write_figure(document, workspace, self.figure)
        return [path for _, path in self._named()]

    def _named(self) -> Iterator[tuple[str, Path]]:
        yield "output", self.output
        if self.figure:
            yield "figure", self.figure
