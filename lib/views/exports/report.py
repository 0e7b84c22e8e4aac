"""report.html: the page in one file that needs no server and no network."""

from __future__ import annotations

import base64
import html
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from lib.pipeline.segmentation import Segmenter
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.runtime.files import replacing
from lib.runtime.progress import OnProgress
from lib.runtime.words import counted
from lib.views.documents.case_document import case_document
from lib.views.documents.case_files import CaseFiles
from lib.views.documents.case_list import case_list
from lib.views.documents.learning_curve import learning_curve
from lib.views.documents.pool_check import pool_check
from lib.views.documents.pool_map import pool_map, pool_states
from lib.views.documents.today import today_document
from lib.views.documents.trust import trust
from lib.views.pictures.checkerboard import Checkerboards
from lib.views.pictures.strips import Strips
from lib.views.static_files import IMPORTS, STATIC, policy

logger = logging.getLogger(__name__)
_LIVE_ONLY = ("live.js", "login.js", "vendor/niivue")  # modules that need a server
_START = 'import "mdal/report.js";'


@dataclass
class Report:
    """Content of the views, by the path under which the server would answer.

    Attributes:
        documents: JSON documents.
        pictures: Pictures as data URLs.
    """

    documents: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)

    def picture(self, path: str, make: Callable[[], Path]) -> None:
        """Add a JPEG, or the sentence that says why there is none."""
        try:
            self.pictures[path] = _data_url("image/jpeg", make().read_bytes())
        except (UserError, OSError) as err:
            self.documents[path] = {"detail": str(err)}
            logger.warning("the report has no %s: %s", path, err)


def write_report(
    workspace: Workspace, path: Path, *, on_progress: OnProgress = lambda done, message: None
) -> None:
    """Write the report of a checked workspace, atomically.

    Args:
        workspace: Workspace whose current plan, cases, models and check are shown.
        path: File to write.
        on_progress: Called with the share done and a message.

    Raises:
        OSError: If the file cannot be written.
    """
    report = gather(workspace, on_progress)
    with replacing(path) as part:
        part.write_text(as_html(report, title=f"MDAL-CIML: {workspace.folders.address}"), encoding="utf-8")


def gather(workspace: Workspace, on_progress: OnProgress) -> Report:
    """Collect the content of the views."""
    files = CaseFiles(workspace, Segmenter(workspace))
    check = pool_check(workspace)
    report = Report(
        {
            "today": {
                **today_document(workspace, ""),
                "report": {
                    "studies": workspace.folders.address,
                    "made": datetime.now(UTC).isoformat(timespec="seconds"),
                },
            },
            "cases": case_list(workspace),
            "map": pool_map(workspace),
            "states": pool_states(workspace, workspace.labels.labelled()),
            "trust": trust(workspace),
            "model": learning_curve(workspace),
            "check": check,
        }
    )
    strips, boards, cases = Strips(workspace), Checkerboards(workspace), workspace.pool.cases
    pictured = {row["case"]: row["pictured"] for row in check["cases"]}
    for done, case in enumerate(cases):
        on_progress(done / len(cases), f"{done} of {counted(len(cases))}")
        path = f"cases/{case.id}"
        report.documents[path] = case_document(files, case)
        if case.id not in workspace.verdicts.quarantined:
            report.picture(f"{path}/strip.jpg", partial(strips.file, case))
        report.picture(f"{path}/planes.jpg", partial(files.planes, case))
        if pair := pictured.get(case.id):
            first, second = pair
            report.picture(
                f"{path}/checkerboard.jpg?first={first}&second={second}",
                partial(boards.file, case, first, second),
            )
    return report


def as_html(report: Report, *, title: str) -> str:
    """The report as HTML, with its styles, modules and data, and a policy that lets nothing else load."""
    modules = {
        f"{IMPORTS}{file.relative_to(STATIC).as_posix()}": _data_url("text/javascript", file.read_bytes())
        for file in sorted(STATIC.rglob("*.js"))
        if not file.relative_to(STATIC).as_posix().startswith(_LIVE_ONLY)
    }
    data = _inert({"documents": report.documents, "pictures": report.pictures})
    body = "".join(
        [
            f"<style>{(STATIC / 'style.css').read_text()}</style>",
            f'<script type="importmap">{_inert({"imports": modules})}</script>',
            f'</head><body><script type="application/json" id="data">{data}</script>',
            f'<script type="module">{_START}</script>',
        ]
    )
    allowed = html.escape(policy(body, scripts="data:", styles=""))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{allowed}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title>{body}</body></html>\n'
    )


def _inert(value: Any) -> str:
    """JSON that cannot close the element around it, whatever a file name holds."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
