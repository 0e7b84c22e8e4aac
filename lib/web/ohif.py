"""OHIF's MONAI Label panel, so that an answer is drawn on the series that it is for.

The panel of MONAI Label 0.8.5 (`MonaiLabelPanel.tsx`) makes one labelmap, for the series that is shown when
it connects, and `updateView` copies every later answer into it without looking whose it is: after a change
of series a reader sees no outline, or one in the wrong place. The viewer is served from the installed
package; its one file with that function gets a few lines more on the way to the browser.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import monailabel
from fastapi import Depends, FastAPI, Response

from lib.web.application import running_application

logger = logging.getLogger(__name__)
_VIEWER = Path(monailabel.__file__).parent / "endpoints" / "static" / "ohif"
_BEFORE = """      const volumeLoadObject = segmentationService.getLabelmapVolume('1');
      if (volumeLoadObject) {
"""
_ADDED = """      const { displaySet } = this.getActiveViewportInfo();
      const asked = new URL(response.config.url).searchParams.get('image');
      if (asked && displaySet.SeriesInstanceUID !== asked) {
        this.notification.show({
          title: 'MONAI Label',
          message: 'The answer is for a series that is not shown any more. Show it and run again.',
          type: 'error',
          duration: 6000
        });
        return;
      }
      const drawn = segmentationService.getSegmentation('1');
      if (drawn?.representationData.Labelmap?.referencedImageIds?.[0] !== displaySet.imageIds[0]) {
        segmentationService.remove('1');
        await this.props.commandsManager.runCommand('loadSegmentationsForViewport', {
          segmentations: [{
            segmentationId: '1',
            representation: { type: esm.Enums.SegmentationRepresentations.Labelmap },
            config: { label: 'Segmentations', segments: this.state.info.initialSegs }
          }]
        });
      }
"""


def mend_panel() -> bool:
    """Serve that file with the lines added, in place of MONAI Label's endpoint and behind the same login.

    Returns:
        False outside a server process, or where the installed viewer is another one: it is served as it is.
    """
    application = running_application()
    if application is None:
        return False
    found = _mended()
    if found is None:
        logger.warning(
            "this release of MONAI Label has another OHIF panel; it may draw an answer on the wrong series. "
            "After a change of series, open the study again."
        )
        return False
    path = f"/ohif/{found[0]}"
    if all(
        getattr(route, "path", "") != path for route in application.routes
    ):  # `/reload` makes the app anew
        _serve_first(application, path, found[1])
    return True


def _serve_first(application: FastAPI, path: str, script: str) -> None:
    from monailabel.config import settings  # only a server has them
    from monailabel.endpoints.user.auth import RBAC

    def panel() -> Response:
        return Response(script, media_type="text/javascript")

    login = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))
    application.add_api_route(path, panel, dependencies=[login], include_in_schema=False)
    routes = application.router.routes
    routes.insert(0, routes.pop())  # MONAI Label's takes every path under /ohif


@cache
def _mended() -> tuple[str, str] | None:
    """Name and text of the file; None if there is not exactly one such place."""
    found = [
        (file.name, text)
        for file in _VIEWER.glob("*.bundle.*.js")
        if _BEFORE in (text := file.read_text("utf-8"))
    ]
    if sum(text.count(_BEFORE) for _, text in found) != 1:
        return None
    ((name, text),) = found
    return name, text.replace(_BEFORE, _ADDED + _BEFORE)
