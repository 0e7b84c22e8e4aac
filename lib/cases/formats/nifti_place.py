"""Place of a NIfTI file: where ITK puts it, because 3D Slicer reads with ITK.

ITK takes the voxel size from `pixdim` and the directions from the qform or the sform; most other readers take
both from the sform. All must agree, and a file that leaves its place open is refused.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from nibabel.quaternions import quat2mat
from numpy.typing import NDArray

from lib.cases.formats.grid import named_grid
from lib.cases.formats.headers import require

SAME_PLACE_MM = 0.5  # or half a voxel, between two positions in a header; rounding errors are far smaller
_MILLIMETRES = {0, 2}  # 0 is unknown; writers that leave the unit out mean mm
_SCANNER = 1  # code of an sform that ITK prefers to the qform
_RIGHT_ANGLES = 1e-4  # ITK's limit for an sform: unit directions x their transpose - identity
_HALF_TURN = 1e-7  # ITK takes a smaller square of the quaternion's first number as 0
_LONGER = 1e-6  # what rounding to float32 may add to the square of a unit quaternion


def nifti_affine(fields: Any, shape: tuple[int, int, int], name: str) -> NDArray[np.float64]:
    """Affine from index to RAS+ mm.

    Args:
        fields: Fields of the header.
        shape: Shape (D, H, W).
        name: Name of the file in messages.

    Raises:
        CaseError: If the header gives no position, or two, or its axes are sheared.
    """
    unit = int(fields["xyzt_units"]) & 7
    require(
        unit in _MILLIMETRES,
        f"{name} must give its geometry in mm (unit 2); its header says unit {unit}. Export it again in mm.",
    )
    sizes = _voxel_sizes(fields, name)
    positions = _positions(fields, sizes, shape, name)
    chosen, affine = positions[0]
    require(
        chosen != "sform",
        f"{name} must have axes at right angles; its sform is sheared, and 3D Slicer does not open it. "
        "Resample it to a straight grid.",
    )
    allowed = min(SAME_PLACE_MM, float(sizes.min()) / 2)
    for other, position in positions[1:]:
        apart = _apart(affine, position, shape)
        require(
            apart <= allowed,  # also refuses NaN
            f"{name} must have one position; its header has two positions ({chosen}, {other}) {apart:.1f} mm "
            "apart. Export it again with one of them.",
        )
    return affine


def _positions(
    fields: Any, sizes: NDArray[np.float64], shape: tuple[int, int, int], name: str
) -> list[tuple[str, NDArray[np.float64]]]:
    """Every position that a reader may take from the header, the one that ITK takes first."""
    has_qform, has_sform = fields["qform_code"] > 0, fields["sform_code"] > 0  # ITK: negative codes mean 0
    require(
        bool(has_qform or has_sform),
        f"{name} must say where it lies in the patient; its header does not (qform_code and sform_code are "
        "0), and every viewer would guess another place. Export it again with its position.",
    )
    positions = [("qform", _qform(fields, sizes, name))] if has_qform else []
    if has_sform:
        sform = named_grid(shape, np.asarray(fields.get_sform(), dtype=float), name).affine
        if _has_right_angles(sform) and (not has_qform or fields["sform_code"] == _SCANNER):
            positions.insert(0, ("sform with pixdim", _with_sizes(sform, sizes)))
        positions.append(("sform", sform))
    return positions


def _voxel_sizes(fields: Any, name: str) -> NDArray[np.float64]:
    sizes = np.asarray(fields["pixdim"][1:4], dtype=float)
    require(
        bool(((sizes > 0.0) & (sizes < np.inf)).all()),
        f"{name} must have voxels of a size above 0; its header says pixdim {sizes.tolist()}. Export it "
        "again.",
    )
    return sizes


def _qform(fields: Any, sizes: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    flip = float(fields["pixdim"][0])
    require(
        flip in (-1.0, 0.0, 1.0),
        f"{name} must have an orientation of -1 or 1; its header says {flip:g} (pixdim[0]). Export it again.",
    )
    b, c, d = (float(fields[f"quatern_{letter}"]) for letter in "bcd")
    rest = 1.0 - (b * b + c * c + d * d)
    require(
        not rest < -_LONGER,  # NaN makes a position that is refused
        f"{name} must have a unit quaternion; its quaternion is longer. Export it again.",
    )
    affine = np.eye(4)
    affine[:3, :3] = quat2mat((0.0 if rest < _HALF_TURN else sqrt(rest), b, c, d)) * sizes
    affine[:3, 2] *= flip or 1.0  # NIfTI: 0 means 1
    affine[:3, 3] = [float(fields[f"qoffset_{letter}"]) for letter in "xyz"]
    return affine


def _has_right_angles(affine: NDArray[np.float64]) -> bool:
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(unit @ unit.T - np.eye(3)).max() <= _RIGHT_ANGLES)


def _with_sizes(affine: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same directions and origin with other voxel sizes."""
    resized = affine.copy()
    resized[:3, :3] *= sizes / np.linalg.norm(affine[:3, :3], axis=0)
    return resized


def _apart(first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, int, int]) -> float:
    """Largest distance in mm between the corners of two positions."""
    depth, height, width = shape
    corners = np.array([[i, j, k, 1] for i in (0, width) for j in (0, height) for k in (0, depth)])
    return float(np.linalg.norm(((first - second) @ corners.T)[:3], axis=0).max())
