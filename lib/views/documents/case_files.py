"""Files of a case for the page: the volumes of the viewer as NIfTI, and a still picture."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib.cases.case import Case, Source
from lib.cases.formats.image import (
    MAX_VOXELS,
    Grid,
    Volume,
    read_grid,
    read_volume,
    suffix_of,
    write_nifti,
)
from lib.labels.store import FINAL
from lib.pipeline.disk import disk_bytes
from lib.pipeline.place_differences import place_differences
from lib.pipeline.segmentation import Segmenter
from lib.pipeline.segmentation_cache import Segmentation
from lib.pipeline.training_data import LEAST_PATIENTS
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.views.pictures.difference_map import colour_range, difference_map, middle_of
from lib.views.pictures.picture_cache import PictureCache
from lib.views.pictures.planes import DrawnDifference, readable_case, write_planes

CASE_FILES_VERSION = 3  # raise when a file of the same case changes
NIFTI = ".nii.gz"
PatientPoint = tuple[float, float, float]  # RAS mm


class NotThere(UserError):
    """The case does not have the requested file."""


class CaseFiles:
    """Files of the cases, made on request and then cached."""

    def __init__(self, workspace: Workspace, segmenter: Segmenter) -> None:
        """Make no file yet."""
        self.workspace, self.segmenter = workspace, segmenter
        self._pictures = PictureCache(
            workspace.folders.work / "pictures", max_bytes=disk_bytes(workspace.settings, "pictures")
        )
        self._volumes = PictureCache(
            workspace.folders.work / "viewed", max_bytes=disk_bytes(workspace.settings, "viewed")
        )

    def image(self, case: Case, modality: str) -> Path:
        """A modality in HU, SUV or the MR's own numbers, on its own grid.

        Raises:
            NotThere: If the case does not have the modality.
            UserError: If it cannot be read.
        """
        source = self._source(case, modality)
        source.make_local()
        if source.channel is None and source.scale == 1.0 and suffix_of(source.path) == NIFTI:
            read_grid(source)  # refuses a file that is not a volume
            return source.path

        def make() -> Volume:
            return _compact(read_volume(source, max_voxels=MAX_VOXELS))

        return self._volume(["image", case.id, modality, source.stamp(), source.scale], make)

    def segmentation(self, case: Case) -> Path:
        """Segmentation by the current model, on the grid of the case's reference.

        Raises:
            UserError: If there is no model yet, or it does not fit the case.
        """
        return self._by_the_model("segmentation", case, "", Segmentation.label_on)

    def uncertainty(self, case: Case, modality: str = "") -> Path:
        """Uncertainty of the current model at each voxel, on the grid of a modality or of the reference.

        Raises:
            NotThere: If the case does not have the modality.
            UserError: As in `segmentation`, or if the modality cannot be read.
        """
        return self._by_the_model("uncertainty", case, modality, Segmentation.uncertainty_on)

    def label(self, case: Case, tag: str) -> Path:
        """A reader's label, on the grid on which it was drawn.

        Raises:
            NotThere: If the case has no label with this tag.
            UserError: If it cannot be read.
        """
        path = self.workspace.labels.files_of(case).get(tag)
        if path is None:
            raise NotThere(f"case {case.id} has no label tagged {tag[:40]!r}.")
        stamp = [Source(path).stamp(), self.workspace.labels.notes(case, tag)]
        return self._volume(
            ["label", case.id, tag, stamp, self.workspace.decomposition.to_dict()],
            lambda: self.workspace.labels.read(case, tag),
        )

    def difference(self, case: Case, pair: str) -> Path:
        """Map of where the two modalities of a pair differ, on the grid of the case's reference.

        Raises:
            NotThere: If there is no such map for the case.
            UserError: If the case cannot be read.
        """
        differences = place_differences(self.workspace)
        if pair not in (known := differences.pairs_of(case.id)):
            raise NotThere(
                f"maps of the difference exist for {', '.join(known) or 'no pair'} of case {case.id}; "
                f"got {pair[:40]!r}. Score the pool again to make them."
            )
        found = difference_map(self.workspace.cache.get(case), differences, pair)
        values = hashlib.blake2b(found.array.tobytes(), digest_size=16).hexdigest()
        return self._volume(["difference", pair, self.workspace.cache.key(case), values], lambda: found)

    def planes(self, case: Case) -> Path:
        """A still picture of every modality in three planes through the same point.

        Raises:
            UserError: If no image of the case can be read.
        """
        tag = FINAL if FINAL in self.workspace.labels.files_of(case) else None
        label = self.label(case, tag) if tag else None
        prepared, through = readable_case(self.workspace, case), None
        if label is None:
            through = self.most_different(case)

        differences = place_differences(self.workspace)

        def make(path: Path) -> None:
            volume = None if label is None else read_volume(Source(label))
            drawn = None
            if differences.falling(case.id).size:
                found = difference_map(prepared, differences)
                drawn = DrawnDifference(found, colour_range(differences))
            write_planes(
                path, prepared, through=through, label=volume, structures=structures, difference=drawn
            )

        stamps = [source.stamp() for source in case.modalities.values() if source.path.exists()]
        structures = dict(self.workspace.decomposition.labels)
        shown = ["planes", CASE_FILES_VERSION, case.id, list(prepared.modalities), stamps, structures]
        places = differences.falling(case.id)[:3].tolist()
        return self._pictures.file(*shown, through, places, label and label.name, suffix=".jpg", make=make)

    def most_different(self, case: Case, pair: str | None = None) -> PatientPoint | None:
        """Point where the modalities of a case differ most, in RAS mm; None if it is not known.

        Args:
            case: Case of the pool.
            pair: Pair of modalities; None for the mean over all pairs of the case.
        """
        differences = place_differences(self.workspace)
        if case.id not in differences.rows:
            return None
        try:
            prepared = self.workspace.cache.get(case)
        except UserError:  # damaged since it was scored
            return None
        box = differences.most_different(prepared, pair)
        return None if box is None else middle_of(prepared, box)

    def _by_the_model(
        self,
        what: str,
        case: Case,
        modality: str,
        on_grid: Callable[[Segmentation, Grid], NDArray[np.generic]],
    ) -> Path:
        """What the current model says of a case, on the grid of a modality, or of the reference if empty."""
        model = self.segmenter.published()
        if model is None:
            raise UserError(
                "there is no trained model yet, so nothing is segmented. Label "
                f"{LEAST_PATIENTS} cases and press Train."
            )
        source = self._source(case, modality) if modality else None

        def make() -> Volume:
            segmented = self.segmenter.segment(case)
            if segmented is None:
                raise UserError("the model was withdrawn. Train again.")
            grid = read_grid(source) if source else segmented.segmentation.grid
            return Volume(on_grid(segmented.segmentation, grid), grid)

        return self._volume([what, model.key, self.workspace.cache.key(case), modality], make)

    def _source(self, case: Case, modality: str) -> Source:
        source = case.modalities.get(modality)
        if source is None:
            raise NotThere(
                f"modality must be one of {', '.join(case.modalities)}, which case {case.id} has; "
                f"got {modality[:40]!r}."
            )
        return source

    def _volume(self, shown: list[object], make: Callable[[], Volume]) -> Path:
        return self._volumes.file(
            CASE_FILES_VERSION,
            json.dumps(shown, sort_keys=True),
            suffix=NIFTI,
            make=lambda path: write_nifti(make(), path, durable=False),
        )


def _compact(volume: Volume) -> Volume:
    """Store whole numbers in two bytes instead of four, if no value changes."""
    with np.errstate(invalid="ignore"):  # a value that overflows fails the comparison below
        whole = volume.array.astype(np.int16)
    return Volume(whole, volume.grid) if (whole == volume.array).all() else volume
