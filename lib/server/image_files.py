"""Uniquely named 3-D files of a case's volumes, as viewers need them."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path

from lib.cases.case import Case, Source
from lib.cases.formats.image import (
    FILE_SUFFIXES,
    read_segments,
    read_volume,
    stem_of,
    suffix_of,
    write_nifti,
)
from lib.labels.store import LabelStore
from lib.runtime.digest import digest
from lib.runtime.disk_cache import evict_least_recently_used

OPEN_IN_VIEWER_S = 600.0  # a viewer on this machine opens the file directly


class ImageFiles:
    """Files named `CASE_MODALITY`: a link if the original is one 3-D file, otherwise a NIfTI written once.

    Slicer caches downloads by file name: it would take `CT.nii.gz` of two patients for one image.
    """

    def __init__(self, folder: Path, *, max_voxels: int, max_bytes: int) -> None:
        """Keep the files in `folder`; files written here take at most `max_bytes`."""
        self.folder, self.max_voxels, self.max_bytes = folder, max_voxels, max_bytes
        self._writing = threading.Lock()

    def name(self, case: Case, modality: str) -> str:
        """File name of a volume, unique in the pool."""
        source = case.modalities[modality]
        single = source.channel is None and suffix_of(source.path)
        return f"{case.id}_{modality}{single or '.nii.gz'}"

    def place(self, case: Case, modality: str) -> Path:
        """Path of a volume's file, which may not exist yet."""
        source, name = case.modalities[modality], self.name(case, modality)
        if source.channel is None and suffix_of(source.path):
            return self._link(source.path, self.folder / name)
        return self.folder / source.stamp() / name

    def file(self, case: Case, modality: str) -> Path:
        """File of a volume, written now if it is missing or its source changed.

        Raises:
            UserError: If the volume cannot be read.
        """
        source, path = case.modalities[modality], self.place(case, modality)
        if path.is_symlink():
            return path
        if not path.exists():
            source.make_local()  # outside the lock: this may take minutes, and other cases need not wait
        with self._writing:
            if not path.exists():
                write_nifti(read_volume(source, max_voxels=self.max_voxels), path)
                made = [entry for entry in self.folder.iterdir() if entry.is_dir()]
                evict_least_recently_used(made, self.max_bytes, in_use_s=OPEN_IN_VIEWER_S)
        os.utime(path.parent)
        return path

    def label(self, case: Case, path: Path, labels: LabelStore, tag: str) -> Path:
        """Uniquely named file of a label found beside the images, with our values: viewers drop others.

        Raises:
            UserError: If its values follow no numbering that is known.
        """
        source = Source(path)
        if labels.meanings.is_plain(case.id) and case.ignored is None and not read_segments(source):
            return self._link(path, self.folder / f"{case.id}_label{suffix_of(path)}")
        meaning = digest([source.stamp(), repr(labels.meanings)])
        file = self.folder / meaning / f"{case.id}_label.nii.gz"
        with self._writing:
            if not file.exists():
                write_nifti(labels.read(case, tag), file)
        return file

    def _link(self, source: Path, path: Path) -> Path:
        """Link to a file, alone of its name: ITK takes the voxels of `a.nii.gz` from an `a.nii` beside it."""
        for suffix in FILE_SUFFIXES:
            other = path.with_name(stem_of(path) + suffix)
            if other != path and other.is_symlink():
                other.unlink(missing_ok=True)
        if path.is_symlink() and path.readlink() == source:
            return path
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".part-") as part:
            link = Path(part) / path.name
            link.symlink_to(source)
            os.replace(link, path)
        return path
