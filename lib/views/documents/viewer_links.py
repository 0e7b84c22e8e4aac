"""Links and names that open a case in a viewer."""

from __future__ import annotations

from typing import Any

from lib.cases.case import Case
from lib.cases.dicomweb.mirror import RemoteSeries


def viewer_links(case: Case) -> dict[str, Any]:
    """Study UID for OHIF, if the case is in a PACS, and the names that Slicer can ask for."""
    sources = case.modalities.values()
    study = next((source.found.study for source in sources if isinstance(source, RemoteSeries)), None)
    return {"study": study, "ids": [case.id, *(f"{case.id}_{name}" for name in case.modalities)]}
