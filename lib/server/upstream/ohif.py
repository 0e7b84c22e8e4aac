"""OHIF's two panels for labels: an answer is drawn on the series that it is for, and a label can be stored.

The MONAI Label panel of MONAI Label 0.8.5 (`MonaiLabelPanel.tsx`) makes one labelmap, for the series that is
shown when it connects, and `updateView` copies every later answer into it without looking whose it is: after
a change of series a reader sees no outline, or one in the wrong place.

The segmentation panel (`PanelSegmentation.tsx`) stores by the command `storeSegmentation`, a name that two of
OHIF's extensions use; without a context the one is run that has to be told a data source, so that Export
DICOM SEG ends in an error (OHIF's issue 4584). What it would store is wrong for every series that is numbered
along its slice normal (issue 5038): `generateSegmentation` hands the slices over in the viewer's order, dcmjs
sorts the images by falling position but not the labels, and each slice's label lands on the mirrored slice.

The viewer is served from the installed package; the files with these functions are changed in a few lines on
the way to the browser.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import monailabel
from fastapi import Depends, FastAPI, Response

from lib.server.upstream.application import running_application

logger = logging.getLogger(__name__)
VIEWER = Path(monailabel.__file__).parent / "endpoints" / "static" / "ohif"


@dataclass(frozen=True)
class _Mend:
    """What is changed in the viewer's files for one purpose: all of it, or nothing.

    Attributes:
        places: Lines as they are installed, with what is served for them.
        otherwise: For the log, where the installed viewer does not have each of them once.
    """

    places: Mapping[str, str]
    otherwise: str


_COPIES = """      const volumeLoadObject = segmentationService.getLabelmapVolume('1');
      if (volumeLoadObject) {
"""
_LOOKS_WHOSE = """      const { displaySet } = this.getActiveViewportInfo();
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
_STORES = """      commandsManager.run('storeSegmentation', {
        segmentationId
      });
"""
_COMMAND = "{ commandName: 'storeSegmentation', context: 'CORNERSTONE' }"
_HANDS_OVER = """      const segImages = imageIds.map(imageId => esm.cache.getImage(imageId));
"""
_SORTS = """      const along = image => {
        const instance = esm.metaData.get('instance', image.referencedImageId);
        const [x, y, z] = instance.ImagePositionPatient;
        const [a, b, c, d, e, f] = instance.ImageOrientationPatient;
        return x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d);
      };
      segImages.sort((one, other) => along(other) - along(one));
"""
_MENDS = (
    _Mend(
        {_COPIES: _LOOKS_WHOSE + _COPIES},
        "this release of MONAI Label has another OHIF panel; it may draw an answer on the wrong series. "
        "After a change of series, open the study again.",
    ),
    _Mend(
        {
            _STORES: _STORES.replace("'storeSegmentation'", _COMMAND),
            _HANDS_OVER: _HANDS_OVER + _SORTS,
        },
        "this release of MONAI Label has another OHIF panel for segmentations; Export DICOM SEG may fail or "
        "store each slice's label on another slice. Submit from Slicer.",
    ),
)


def patch_panel() -> bool:
    """Serve those files as changed, in place of MONAI Label's endpoint and behind the same login.

    Returns:
        False outside a server process, or where the installed viewer is another one: what is not as expected
        there is served as it is.
    """
    application = running_application()
    if application is None:
        return False
    scripts, missed = _mended()
    for mend in missed:
        logger.warning(mend.otherwise)
    there = {getattr(route, "path", "") for route in application.routes}  # `/reload` makes the app anew
    for name, script in scripts.items():
        if (path := f"/ohif/{name}") not in there:
            _serve_first(application, path, script)
    return not missed


def _serve_first(application: FastAPI, path: str, script: str) -> None:
    from monailabel.config import settings  # only a server has them
    from monailabel.endpoints.user.auth import RBAC

    def panel() -> Response:
        fresh = {"Cache-Control": "no-cache"}  # the name stays when another release changes other lines
        return Response(script, media_type="text/javascript", headers=fresh)

    login = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))
    application.add_api_route(path, panel, dependencies=[login], include_in_schema=False)
    routes = application.router.routes
    routes.insert(0, routes.pop())  # MONAI Label's takes every path under /ohif


@cache
def _mended() -> tuple[dict[str, str], tuple[_Mend, ...]]:
    """Text of each changed file by its name, and the mends for which there is not exactly one place each."""
    files = {file.name: file.read_text("utf-8") for file in VIEWER.glob("*.bundle.*.js")}
    changed: dict[str, str] = {}
    missed = []
    for mend in _MENDS:
        found = [
            (name, before)
            for before in mend.places
            for name, text in files.items()
            for _ in range(text.count(before))
        ]
        if [before for _, before in found] != list(mend.places):
            missed.append(mend)
            continue
        for name, before in found:
            files[name] = changed[name] = files[name].replace(before, mend.places[before])
    return changed, tuple(missed)
