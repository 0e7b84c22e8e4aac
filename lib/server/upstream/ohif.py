"""Corrections of OHIF's two label panels: one connects by itself and draws answers on their own series.

The MONAI Label panel of MONAI Label 0.8.5 (`MonaiLabelPanel.tsx`) creates one labelmap, for the series that
is shown when the panel connects. `updateView` copies every later answer into it without checking the series:
after a change of series a reader sees no outline, or an outline in the wrong place.

The panel also proposes port 8000 and waits for a press of its connect button, and it sends no name with Next
Sample, so that all readers were one. Here it connects to the server that serves it, and sends the name that
the reader typed on the page, or one of the browser's own.

The segmentation panel (`PanelSegmentation.tsx`) stores with the command `storeSegmentation`, a name that two
of OHIF's extensions use. Without a context, OHIF runs the command that needs a data source, and Export DICOM
SEG ends in an error (OHIF's issue 4584). The stored file would also be wrong for every series that is
numbered along its slice normal (issue 5038): `generateSegmentation` passes the slices in the viewer's order,
dcmjs sorts the images by falling position but not the labels, and each label lands on the mirrored slice.

The viewer is served from the installed package; a few lines of its files are changed on the way to the
browser.
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
class _Patch:
    """A change of the viewer's files for one purpose, applied completely or not at all.

    Attributes:
        replacements: Installed lines, with the lines served in their place.
        warning: Sentence for the log, where the installed viewer does not have each of the lines once.
    """

    replacements: Mapping[str, str]
    warning: str


_COPIES = """      const volumeLoadObject = segmentationService.getLabelmapVolume('1');
      if (volumeLoadObject) {
"""
_CHECKS_SERIES = """      const { displaySet } = this.getActiveViewportInfo();
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
_PASSES_SLICES = """      const segImages = imageIds.map(imageId => esm.cache.getImage(imageId));
"""
_SORTS_SLICES = """      const along = image => {
        const instance = esm.metaData.get('instance', image.referencedImageId);
        const [x, y, z] = instance.ImagePositionPatient;
        const [a, b, c, d, e, f] = instance.ImageOrientationPatient;
        return x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d);
      };
      segImages.sort((one, other) => along(other) - along(one));
"""
_ADDRESS = """    const _url = CookieUtils.getCookieString('MONAILABEL_SERVER_URL', 'http://' + \
window.location.host.split(':')[0] + ':8000/');
"""
_OWN_ADDRESS = """    const _url = window.location.origin + '/';
"""
_MOUNTED = """    // await this.onInfo();
"""
_CONNECTS = """    const isLoaded = () => {
      try {
        const { viewportId } = this.getActiveViewportInfo().viewport;
        const { cornerstoneViewportService } = this.props.servicesManager.services;
        const shown = cornerstoneViewportService.getCornerstoneViewport(viewportId).getVolumeId();
        return dist_esm.cache.getVolume(shown).loadStatus.loaded;
      } catch {
        return false;
      }
    };
    const connect = () => {
      if (this.state.isDataReady) return;
      if (isLoaded()) this.onInfo(this.settings.current.state.url);
      else setTimeout(connect, 500);
    };
    connect();
"""
_ASKS = """  async next_sample(stategy = 'random', params = {}) {
"""
# The page keeps the reader's name in this browser; a reader without a name gets one for this browser.
_NAMES_READER = """    const kept = 'mdal-ohif-reader';
    const made = localStorage.getItem(kept) ?? 'OHIF ' + Math.random().toString(36).slice(2, 8);
    localStorage.setItem(kept, made);
    params = { client_id: localStorage.getItem('mdal-annotator') || made, ...params };
"""
_PATCHES = (
    _Patch(
        {_ADDRESS: _OWN_ADDRESS, _MOUNTED: _CONNECTS},
        "this release of MONAI Label has another OHIF panel: readers must type this server's address there.",
    ),
    _Patch(
        {_ASKS: _ASKS + _NAMES_READER},
        "this release of MONAI Label has another OHIF panel; its readers have no names of their own.",
    ),
    _Patch(
        {_COPIES: _CHECKS_SERIES + _COPIES},
        "this release of MONAI Label has another OHIF panel; it may draw an answer on the wrong series. "
        "After a change of series, open the study again.",
    ),
    _Patch(
        {
            _STORES: _STORES.replace("'storeSegmentation'", _COMMAND),
            _PASSES_SLICES: _PASSES_SLICES + _SORTS_SLICES,
        },
        "this release of MONAI Label has another OHIF panel for segmentations; Export DICOM SEG may fail or "
        "store each slice's label on another slice. Submit from Slicer.",
    ),
)


def patch_panel(viewer: Path = VIEWER) -> bool:
    """Serve the changed files, ahead of MONAI Label's endpoint and behind the same login.

    Args:
        viewer: Folder of the viewer's files.

    Returns:
        False outside a server process, or if the installed viewer is another version; files that are not as
        expected are served unchanged.
    """
    application = running_application()
    if application is None:
        return False
    scripts, missed = _patched(viewer)
    for patch in missed:
        logger.warning(patch.warning)
    # Routes of an earlier call stay when `/reload` creates the app again.
    there = {getattr(route, "path", "") for route in application.routes}
    for name, script in scripts.items():
        if (path := f"/ohif/{name}") not in there:
            _serve_first(application, path, script)
    return not missed


def _serve_first(application: FastAPI, path: str, script: str) -> None:
    from monailabel.config import settings  # exists in a server process only
    from monailabel.endpoints.user.auth import RBAC

    def panel() -> Response:
        fresh = {"Cache-Control": "no-cache"}  # a new release changes lines but not the file name
        return Response(script, media_type="text/javascript", headers=fresh)

    login = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))
    application.add_api_route(path, panel, dependencies=[login], include_in_schema=False)
    routes = application.router.routes
    routes.insert(0, routes.pop())  # MONAI Label's route takes every path under /ohif


@cache
def _patched(viewer: Path) -> tuple[dict[str, str], tuple[_Patch, ...]]:
    """Text of each changed file by its name, and the patches whose lines do not each occur exactly once."""
    files = {file.name: file.read_text("utf-8") for file in viewer.glob("*.bundle.*.js")}
    changed: dict[str, str] = {}
    missed = []
    for patch in _PATCHES:
        found = [
            (name, before)
            for before in patch.replacements
            for name, text in files.items()
            for _ in range(text.count(before))
        ]
        if [before for _, before in found] != list(patch.replacements):
            missed.append(patch)
            continue
        for name, before in found:
            files[name] = changed[name] = files[name].replace(before, patch.replacements[before])
    return changed, tuple(missed)
