"""Files that `segment` writes for a case: the label, its figures and, on request, the explanation."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lib.cases.case import Case
from lib.cases.formats.image import Volume, write_nifti
from lib.pipeline.segmentation import Segmenter
from lib.pipeline.settings import AppSettings
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.runtime.progress import OnShareDone

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelFiles:
    """Writes CASE.nii.gz, then CASE.json; a case is done once a current CASE.json exists.

    A job for `lib.runtime.distributed.share_out`; a piece is the index of a served case.

    Attributes:
        studies: Address of the studies.
        settings: Settings of the workspace.
        output: Folder to write to.
        threads: Number of threads of a process on a CPU.
        explain: Whether to write explanations too.
        export_values: Whether to write the values of the edition of BraTS that the case is named for, or else
            of the decomposition's export map.
    """

    studies: str
    settings: AppSettings
    output: Path
    threads: int
    explain: bool = False
    export_values: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the workspace and the segmenter, which each process creates for itself."""
        return LabelFiles, tuple(getattr(self, field.name) for field in fields(self))

    def __call__(self, piece: int, device: torch.device, tell: OnShareDone) -> None:
        """Segment a case; for an unusable case, write the reason instead of the figures."""
        if device.type == "cpu":
            torch.set_num_threads(self.threads)  # one piece per process: no other work needs the threads
        self.segmenter.device = device
        case = self.workspace.verdicts.served[piece]
        try:
            self._write(case)
        except (UserError, OSError, RuntimeError) as err:
            self._label(case).unlink(missing_ok=True)  # the label of an earlier state of the case
            self._record(case, {"case": case.id, "error": str(err)})
        tell(1.0)

    def is_done(self, case: Case) -> bool:
        """Whether both files exist, for the current state of the case and the current model."""
        try:
            return self._label(case).exists() and self.figures(case).get("of") == self._state(case)
        except (FileNotFoundError, json.JSONDecodeError, UserError):
            return False

    def figures(self, case: Case) -> dict[str, Any]:
        """Figures recorded for a case."""
        figures: dict[str, Any] = json.loads(self._figures(case).read_text())
        return figures

    @cached_property
    def workspace(self) -> Workspace:
        """Workspace, created in each process."""
        return Workspace(self.studies, self.settings)

    @cached_property
    def segmenter(self) -> Segmenter:
        """Segmenter, one per process, so that the weights are loaded once."""
        return Segmenter(self.workspace)

    def _write(self, case: Case) -> None:
        exports = self._exports(case)
        segmented = self.segmenter.explained(case) if self.explain else self.segmenter.segment(case)
        if segmented is None:
            raise UserError("a model must have been trained; it was removed meanwhile.")
        grid = segmented.segmentation.grid
        label = segmented.label_on(grid)
        figures: dict[str, Any] = {
            "case": case.id,
            **segmented.volumes_ml(label, grid),
            **segmented.about,
            "seconds": {stage: round(value, 3) for stage, value in segmented.seconds.items()},
        }
        if self.export_values:
            label = segmented.segmentation.decomposition.exported(label, exports)
        write_nifti(Volume(label, grid), self._label(case))
        if self.explain:
            from lib.views.exports.explanation_files import explain_case  # with matplotlib, slow to import

            explain_case(self.segmenter, case, self.output)
        self._record(case, {**figures, "of": self._state(case)})

    def _state(self, case: Case) -> list[Any]:
        published = self.segmenter.published()
        model = published.key if published else ""
        exports = [list(pair) for pair in (self._exports(case) or {}).items()]
        return [model, self.workspace.cache.key(case), self.explain, self.export_values, exports]

    def _exports(self, case: Case) -> dict[int, int] | None:
        """Values of the edition of BraTS that a case is named for, if they are to be written."""
        return self.workspace.label_meanings.exports(case.id) if self.export_values else None

    def _record(self, case: Case, figures: dict[str, Any]) -> None:
        with replacing(self._figures(case)) as part:
            part.write_text(json.dumps(figures, indent=1, allow_nan=False))

    def _label(self, case: Case) -> Path:
        return self.output / f"{case.id}.nii.gz"

    def _figures(self, case: Case) -> Path:
        return self.output / f"{case.id}.json"
