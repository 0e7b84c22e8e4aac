"""One uniquely named 3-D file for each volume of a case, as viewers need it."""

from __future__ import annotations

import threading
from pathlib import Path

from lib.atomic import replacing
from lib.cases.case import Case
from lib.cases.image import read_volume, suffix_of, write_nifti


class Exports:
    """Files named `CASE_MODALITY`: a link where the original is one 3-D file, else a NIfTI made once.

    Slicer caches downloads by file name, so `CT.nii.gz` of two patients would be one image to it.
    """

    def __init__(self, folder: Path, *, max_voxels: int) -> None:
        """Keep the files in `folder`."""
        self.folder, self.max_voxels = folder, max_voxels
        self._writing = threading.Lock()

    def path(self, case: Case, modality: str) -> Path:
        """Where a volume's file is or will be."""
        source = case.modalities[modality]
        single = source.channel is None and bool(suffix_of(source.path))
        return self.folder / f"{case.id}_{modality}{suffix_of(source.path) if single else '.nii.gz'}"

    def file(self, case: Case, modality: str) -> Path:
        """A volume's file, made now where it is missing or older than its source.

        Raises:
            CaseError: If the volume cannot be read.
        """
        source, path = case.modalities[modality], self.path(case, modality)
        if source.channel is None and suffix_of(source.path):
            return self._link(source.path, path)
        with self._writing:
            if not path.exists() or path.stat().st_mtime < source.path.stat().st_mtime:
                write_nifti(read_volume(source, max_voxels=self.max_voxels), path)
        return path

    def label(self, case: Case, path: Path) -> Path:
        """A uniquely named file for a contour found beside the images."""
        return self._link(path, self.folder / f"{case.id}_label{suffix_of(path)}")

    def _link(self, source: Path, path: Path) -> Path:
        if path.is_symlink() and path.readlink() == source:
            return path
        with replacing(path) as part:
            part.unlink()
            part.symlink_to(source)
        return path
