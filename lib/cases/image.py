"""Volumes with their geometry: header first, voxels later, one array order for every format."""

from __future__ import annotations

import zlib
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lib.atomic import replacing
from lib.cases import dicom
from lib.cases.case import CaseError, Source
from lib.cases.headers import RAS_LPS, nifti_header, nrrd_header

MAX_VOXELS = 512**3  # 134 million voxels, 512 MB as float32: larger is a mistake or an attack
FILE_SUFFIXES = (".nii.gz", ".nii", ".nrrd")


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie.

    Attributes:
        shape: (D, H, W).
        affine: (4, 4), maps the index (i along W, j along H, k along D, 1) to RAS+ mm.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse what no scanner produces."""
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise CaseError(f"a volume must have three axes of at least one voxel; got {self.shape}.")
        if not np.isfinite(self.affine).all() or abs(np.linalg.det(self.affine[:3, :3])) < 1e-9:
            raise CaseError(
                "the header's orientation matrix must be finite and invertible; got "
                f"{np.array2string(self.affine[:3, :3], precision=3)}. Export it again."
            )

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along (D, H, W)."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    def same_as(self, other: Grid, *, tolerance: float = 1e-2) -> bool:
        """Whether both grids put every voxel at the same place, within `tolerance` mm at the corners."""
        if self.shape != other.shape:
            return False
        corners = np.array(
            [
                [i, j, k, 1]
                for k in (0, self.shape[0])
                for j in (0, self.shape[1])
                for i in (0, self.shape[2])
            ],
            dtype=float,
        )
        return bool(np.abs((self.affine - other.affine) @ corners.T).max() <= tolerance)


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels (D, H, W) on a grid."""

    array: NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        """Refuse an array that does not fit its grid."""
        if self.array.shape != self.grid.shape:
            raise CaseError(f"voxels {self.array.shape} must fit their grid {self.grid.shape}.")


def suffix_of(path: Path) -> str:
    """`.nii.gz`, `.nii` or `.nrrd` of a file that can be read; empty for another."""
    name = path.name.lower()
    return next((suffix for suffix in FILE_SUFFIXES if name.endswith(suffix)), "")


def stem_of(path: Path) -> str:
    """File name without its image suffix."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def read_grid(source: Source) -> Grid:
    """Geometry from the header alone.

    Raises:
        CaseError: If the header cannot be read or the volume is not three-dimensional.
    """
    source.make_local()
    if source.path.is_dir():
        return _grid_of_slices(dicom.read_series(source.path, source.series))
    try:
        shape, affine = nrrd_header(source) if suffix_of(source.path) == ".nrrd" else nifti_header(source)
    except CaseError:
        raise
    except Exception as err:  # nibabel and pynrrd raise many kinds on a damaged header
        raise CaseError(
            f"{source.path} must be a readable image; its header is damaged ({err}). Export it again."
        ) from err
    return Grid(shape, affine)


def read_volume(source: Source, *, max_voxels: int = MAX_VOXELS) -> Volume:
    """Voxels in the modality's unit (stored value x `source.scale`), float32, (D, H, W).

    Args:
        source: What to read.
        max_voxels: Refused from the header, before anything is decoded.

    Raises:
        CaseError: If the volume is too large, truncated or damaged.
    """
    grid = read_grid(source)
    voxels = int(np.prod(grid.shape))
    if voxels > max_voxels:
        raise CaseError(
            f"{source.path} must have at most {max_voxels:,} voxels; its header says {voxels:,}. "
            "Crop or resample it, or raise --conf max_voxels."
        )
    try:
        if source.path.is_dir():
            array = _decode_slices(source)
        elif suffix_of(source.path) == ".nrrd":
            array = nrrd.read(str(source.path), index_order="C")[0]
        else:
            image: Any = nib.load(source.path)
            proxy = image.dataobj
            array = np.asarray(proxy[..., source.channel] if source.channel is not None else proxy)
            array = array.reshape(grid.shape[::-1]).T
    except (EOFError, OSError, ValueError, zlib.error, RuntimeError, nrrd.NRRDError) as err:
        raise CaseError(
            f"{source.path} must be complete; it ends early or is damaged ({err}). Copy or export it again."
        ) from err
    if np.iscomplexobj(array) or array.dtype.fields:
        raise CaseError(
            f"{source.path} must hold one real number a voxel; got {array.dtype}. "
            "Export magnitude or grey values."
        )
    values = np.ascontiguousarray(array, dtype=np.float32)
    return Volume(values * np.float32(source.scale) if source.scale != 1.0 else values, grid)


def resample(volume: Volume, grid: Grid, *, nearest: bool = False, fill: float = 0.0) -> Volume:
    """The volume on another grid, through physical space, by ITK.

    Args:
        volume: What to move.
        grid: Where to.
        nearest: Nearest neighbour instead of linear, for labels.
        fill: Value outside the volume.
    """
    if volume.grid.same_as(grid):
        return Volume(volume.array, grid)
    moved = sitk.Resample(
        to_itk(volume),
        _itk_reference(grid),
        sitk.Transform(3, sitk.sitkIdentity),
        sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear,
        fill,
    )
    return Volume(sitk.GetArrayFromImage(moved), grid)


def to_itk(volume: Volume) -> sitk.Image:
    """The same voxels and geometry as an ITK image (LPS)."""
    image = sitk.GetImageFromArray(volume.array)
    return _set_geometry(image, volume.grid)


def write_nifti(volume: Volume, path: Path, *, durable: bool = True) -> None:
    """Write atomically: a reader sees the whole file or none.

    Args:
        volume: To write.
        path: Replaced if it exists.
        durable: Wait for the disk, for seconds while others write; False for a file that nobody reads before
            this returns or after a power cut.

    Raises:
        OSError: If the folder cannot be written.
    """
    image = nib.Nifti1Image(volume.array.T, volume.grid.affine)
    image.header.set_xyzt_units("mm")
    with replacing(path) if durable else nullcontext(path) as part:
        image.to_filename(part)


def write_nrrd(volume: Volume, path: Path, *, compress: bool = True, durable: bool = True) -> None:
    """Write as `write_nifti` does; OHIF reads the buffer itself, so it asks for it uncompressed.

    Raises:
        OSError: If the folder cannot be written.
    """
    affine = RAS_LPS @ volume.grid.affine
    header = {
        "space": "left-posterior-superior",
        "space directions": affine[:3, :3].T,
        "space origin": affine[:3, 3],
        "kinds": ["domain"] * 3,
        "encoding": "gzip" if compress else "raw",
    }
    with replacing(path) if durable else nullcontext(path) as part:
        nrrd.write(str(part), volume.array, header, index_order="C")


def _grid_of_slices(series: dicom.Series) -> Grid:
    return Grid(series.shape, RAS_LPS @ series.affine_lps)


def _decode_slices(source: Source) -> NDArray[Any]:
    series = dicom.read_series(source.path, source.series)
    reader = sitk.ImageSeriesReader()
    reader.SetOutputPixelType(sitk.sitkFloat32)  # else the first slice's type truncates the others'
    reader.SetFileNames([str(file) for file in series.files])
    return np.asarray(sitk.GetArrayFromImage(reader.Execute()), dtype=np.float32) * series.suv_factor


def _set_geometry(image: sitk.Image, grid: Grid) -> sitk.Image:
    affine = RAS_LPS @ grid.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing([float(value) for value in spacing])
    image.SetOrigin([float(value) for value in affine[:3, 3]])
    image.SetDirection([float(value) for value in (affine[:3, :3] / spacing).ravel()])
    return image


def _itk_reference(grid: Grid) -> sitk.Image:
    return _set_geometry(sitk.Image(*[int(size) for size in grid.shape[::-1]], sitk.sitkUInt8), grid)
