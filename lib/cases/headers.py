"""Headers of image files: where each format says that its voxels lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
from numpy.typing import NDArray

from lib.cases.case import CaseError, Source

SAME_PLACE_MM = 0.5  # between a NIfTI header's two positions; rounding is far less
RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # from either to the other
Place = tuple[tuple[int, int, int], NDArray[np.float64]]  # (D, H, W), and index to RAS+ mm as `Grid` has it


def nifti_header(source: Source) -> Place:
    """Of a NIfTI file, or of one channel of it.

    Raises:
        CaseError: If it is not one 3-D volume at one place.
    """
    image: Any = nib.load(source.path)
    shape = image.shape
    if source.channel is not None:
        if len(shape) != 4 or source.channel >= shape[3]:
            raise CaseError(
                f"{source.path} must have at least {source.channel + 1} channels along its "
                f"fourth axis; got shape {shape}. Check dataset.json against the file."
            )
        shape = shape[:3]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise CaseError(
            f"{source.path} must be one 3-D volume; got shape {shape}. Split it by modality, "
            "or describe it in a Decathlon dataset.json."
        )
    affine = np.asarray(image.affine, dtype=float)
    _check_one_place(source.path, image.header, shape, affine)
    return (int(shape[2]), int(shape[1]), int(shape[0])), affine


def nrrd_header(source: Source) -> Place:
    """Of an NRRD file.

    Raises:
        CaseError: If it is not one 3-D volume, or does not say where its voxels lie.
    """
    header = nrrd.read_header(str(source.path))
    sizes = tuple(int(size) for size in header["sizes"])
    if len(sizes) != 3:
        raise CaseError(
            f"{source.path} must be one 3-D volume; its header says sizes {sizes}. Export one "
            "file a modality."
        )
    directions, space = header.get("space directions"), str(header.get("space", "")).lower()
    if directions is None:
        raise CaseError(
            f"{source.path} must say where its voxels lie; its header has no 'space directions'. "
            "Export it again from the viewer."
        )
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(directions, dtype=float).T
    affine[:3, 3] = np.asarray(header.get("space origin", (0.0, 0.0, 0.0)), dtype=float)
    if space in ("left-posterior-superior", "lps"):
        affine = RAS_LPS @ affine
    elif space not in ("right-anterior-superior", "ras"):
        raise CaseError(
            f"{source.path} must use the space left-posterior-superior or right-anterior-superior; "
            f"got {space or 'none'!r}. Export it again from the viewer."
        )
    return (sizes[2], sizes[1], sizes[0]), affine


def _check_one_place(path: Path, header: Any, shape: tuple[int, ...], affine: NDArray[np.float64]) -> None:
    """Refuse a header whose two positions differ: viewers would follow one and this server the other."""
    if not (header["sform_code"] > 0 and header["qform_code"] > 0):
        return
    other = header.get_qform()
    corners = np.array([[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])])
    apart = float(np.linalg.norm(((other - affine) @ corners.T)[:3], axis=0).max())
    if apart > SAME_PLACE_MM:
        raise CaseError(
            f"{path} must say once where it lies; its header has two positions (qform, sform) {apart:.1f} mm "
            "apart. Export it again with one of them."
        )
