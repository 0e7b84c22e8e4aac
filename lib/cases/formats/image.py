"""Reading, resampling and writing of volumes, with one array order for every format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import nrrd
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lib.cases.case import CaseError, Source
from lib.cases.formats import dicom
from lib.cases.formats.file_bytes import regular_file
from lib.cases.formats.grid import Grid as Grid  # re-exported
from lib.cases.formats.grid import Volume as Volume
from lib.cases.formats.grid import named_grid
from lib.cases.formats.headers import RAS_LPS, Header
from lib.cases.formats.meta_header import meta_header
from lib.cases.formats.nifti import nifti_content, nifti_header, nifti_shape
from lib.cases.formats.nrrd_header import nrrd_header
from lib.cases.formats.pixels import decode
from lib.cases.formats.slice_places import SlicePlaces
from lib.cases.formats.voxels import MAX_LABEL, MAX_VALUE, beyond_images, beyond_labels, read_voxels
from lib.runtime.errors import UserError
from lib.runtime.files import replacing

MAX_VOXELS = 512**3  # 134 million voxels, 512 MB as float32; a larger volume is a mistake or an attack
CHANNELS_AT_FULL_SIZE = 4  # a 4-D file is unpacked to its end, so more channels must be smaller
FILE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
WRITTEN_SUFFIXES = (".nii.gz", ".nii", ".nrrd")


def suffix_of(path: Path) -> str:
    """Image suffix of a file, one of `FILE_SUFFIXES` in any case of letters; empty for any other file."""
    name = path.name.lower()
    return next((suffix for suffix in FILE_SUFFIXES if name.endswith(suffix)), "")


def stem_of(path: Path) -> str:
    """File name without its image suffix."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def read_grid(source: Source, *, max_voxels: int | None = None) -> Grid:
    """Grid of a volume, from its header alone.

    Args:
        source: Location of the volume.
        max_voxels: Largest number of voxels; a larger volume is refused.

    Raises:
        CaseError: If the header cannot be read, or the volume is not three-dimensional or too large.
    """
    grid = read_places(source).grid
    if max_voxels is not None:
        _check_size(source, prod(grid.shape), max_voxels)
    return grid


def read_places(source: Source) -> SlicePlaces:
    """Where the stored slices of a volume lie; only those of a DICOM series may be tilted.

    Raises:
        CaseError: If the header cannot be read, or the volume is not three-dimensional.
    """
    place = source.last_known_place()
    if place is not None:
        return SlicePlaces(*place)
    source.make_local()
    with _refusing(source):
        if source.path.is_dir():
            return _series(source).places
        with _opened(source) as (header, _):
            grid = named_grid(header.shape, header.affine, source.name)
            return SlicePlaces(grid.shape, grid.affine)


def read_axes(source: Source) -> tuple[int, ...]:
    """Sizes of a NIfTI file along every axis, (W, H, D, …), from its header alone.

    Raises:
        CaseError: If the file is no NIfTI file, or its header cannot be read.
    """
    with _refusing(source), regular_file(source.path, source.name) as file:
        return nifti_shape(nifti_content(file, source), source)


def read_volume(source: Source, *, max_voxels: int = MAX_VOXELS) -> Volume:
    """Volume in the modality's unit (stored value x `source.scale`), float32, shape (D, H, W).

    Memory: 4 bytes a voxel of this volume and about 4 MB, also for one channel of a 4-D file and for any
    content of the file; DICOM, which ITK decodes, takes twice that.

    Args:
        source: Location of the volume.
        max_voxels: Largest number of voxels; a larger volume is refused from its header, before anything is
            decoded. All channels of a 4-D file together may have four times as many.

    Raises:
        CaseError: If the volume is too large, truncated or damaged, or has finite values beyond 1e9; NaN
            and infinity are left to the pool check.
    """
    volume, beyond = _read(source, np.float32, beyond_images, max_voxels)
    if beyond:
        raise CaseError(
            f"{source.name} must hold values between -{MAX_VALUE:,.0f} and {MAX_VALUE:,.0f}; {beyond:,} of "
            f"{volume.array.size:,} voxels are beyond. Export it again."
        )
    if source.scale != 1.0:
        np.multiply(volume.array, np.float32(source.scale), out=volume.array)
    return volume


def read_label_map(source: Source, *, max_voxels: int = MAX_VOXELS) -> Volume:
    """Label map, uint16, shape (D, H, W).

    Memory: 2 bytes a voxel and about 4 MB; see `read_volume`.

    Raises:
        CaseError: If the volume is too large, truncated or damaged, or a value is not a whole number from 0
            to 65,535.
    """
    volume, others = _read(source, np.uint16, beyond_labels, max_voxels)
    if others:
        raise CaseError(
            f"{source.name} must hold whole numbers from 0 to {MAX_LABEL:,}; {others:,} of "
            f"{volume.array.size:,} voxels hold others. Save segments as a label map."
        )
    return volume


def read_segments(source: Source) -> tuple[tuple[str, int], ...]:
    """Name and value of each segment that a label file's header names; empty if it names none.

    Raises:
        CaseError: If the header cannot be read.
    """
    if suffix_of(source.path) != ".nrrd":
        return ()
    with _refusing(source), _opened(source) as (header, _):
        return header.segments


def resample(volume: Volume, grid: Grid, *, nearest: bool = False, fill: float = 0.0) -> Volume:
    """Resample a volume to another grid in physical space, by ITK.

    Args:
        volume: Volume to resample.
        grid: Grid of the result.
        nearest: Whether to use nearest-neighbour instead of linear interpolation, for labels.
        fill: Value outside the volume.
    """
    if volume.grid.same_as(grid):
        return Volume(volume.array, grid)
    origin, spacing, direction = _itk_geometry(grid)
    moved = sitk.Resample(
        to_itk(volume),
        [int(size) for size in grid.shape[::-1]],
        sitk.Transform(3, sitk.sitkIdentity),
        sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear,
        origin,
        spacing,
        direction,
        fill,
    )
    return Volume(sitk.GetArrayFromImage(moved), grid)


def to_itk(volume: Volume) -> sitk.Image:
    """ITK image (LPS) with the same voxels and geometry."""
    image = sitk.GetImageFromArray(volume.array)
    origin, spacing, direction = _itk_geometry(volume.grid)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    return image


def write_nifti(volume: Volume, path: Path, *, durable: bool = True) -> None:
    """Write a NIfTI file atomically: a reader sees the whole file or none.

    Args:
        volume: Volume to write.
        path: Path of the file; an existing file is replaced.
        durable: Whether to wait for the disk, which may take seconds. False suits a file that nobody reads
            before this function returns or after a power cut.

    Raises:
        OSError: If the folder cannot be written.
    """
    image = nib.Nifti1Image(volume.array.T, volume.grid.affine)
    image.header.set_xyzt_units("mm")
    # ITK takes this sform, or the qform where the directions are not quite at right angles
    image.set_sform(volume.grid.affine, code="scanner")
    image.set_qform(volume.grid.affine, code="scanner")
    with replacing(path) if durable else nullcontext(path) as part:
        image.to_filename(part)


def write_nrrd(
    array: NDArray[Any], affine: NDArray[np.float64], path: Path, *, compress: bool = True
) -> None:
    """Write an NRRD file that nobody reads before this function returns; after a power cut it may be damaged.

    Args:
        array: Voxels of shape (D, H, W).
        affine: Their places as in `Grid`; it may be sheared, as that of tilted slices is.
        path: Path of the file; an existing file is replaced.
        compress: Whether to compress it; OHIF decodes the buffer itself and needs it uncompressed.

    Raises:
        OSError: If the folder cannot be written.
    """
    lps = RAS_LPS @ affine
    header = {
        "space": "left-posterior-superior",
        "space directions": lps[:3, :3].T,
        "space origin": lps[:3, 3],
        "kinds": ["domain"] * 3,
        "encoding": "gzip" if compress else "raw",
    }
    nrrd.write(str(path), array, header, index_order="C")


def _read(
    source: Source, dtype: type[np.generic], impossible: Callable[[NDArray[Any]], int], max_voxels: int
) -> tuple[Volume, int]:
    """Volume, and the number of its impossible voxels."""
    source.make_local()
    with _refusing(source):
        if source.path.is_dir():
            series = _series(source)
            grid = series.places.grid
            _check_size(source, prod(grid.shape), max_voxels)
            array = series.places.straightened(decode(series.slices) * series.suv_factor)
            return Volume(array.astype(dtype, copy=False), grid), impossible(array)
        with _opened(source) as (header, content):
            grid = named_grid(header.shape, header.affine, source.name)
            _check_size(source, header.voxels, max_voxels)
            _check_size(source, header.voxels * header.channels, CHANNELS_AT_FULL_SIZE * max_voxels)
            array, beyond = read_voxels(header, content, dtype, impossible)
            return Volume(array, grid), beyond


@contextmanager
def _opened(source: Source) -> Iterator[tuple[Header, BinaryIO]]:
    """Header of an image file, and its unpacked content after the header."""
    with regular_file(source.path, source.name) as file:
        match suffix_of(source.path):
            case ".nrrd":
                yield nrrd_header(file, source.name)
            case ".mha":
                yield meta_header(file, source.name)
            case _:
                content = nifti_content(file, source)
                yield nifti_header(content, source), content


@contextmanager
def _refusing(source: Source) -> Iterator[None]:
    """Turn any exception while a file is read into an error that names the file."""
    try:
        yield
    except UserError:
        raise
    except MemoryError as err:
        raise CaseError(f"{source.name} must fit in memory. Crop or resample it.") from err
    except Exception as err:  # zlib, ITK and nibabel raise many kinds on a damaged file
        reason = getattr(err, "strerror", None) or err  # str(OSError) would reveal the path
        raise CaseError(
            f"{source.name} must be complete; it ends early or is damaged ({reason}). Copy or "
            "export it again."
        ) from err


def _check_size(source: Source, voxels: int, most: int) -> None:
    if voxels > most:
        raise CaseError(
            f"{source.name} must have at most {most:,} voxels; its header says {voxels:,}. "
            "Crop or resample it."
        )


def _series(source: Source) -> dicom.Series:
    return dicom.read_series(source.path, source.series)


def _itk_geometry(grid: Grid) -> tuple[list[float], list[float], list[float]]:
    """Origin, spacing and direction in LPS, in ITK's form."""
    affine = RAS_LPS @ grid.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return affine[:3, 3].tolist(), spacing.tolist(), (affine[:3, :3] / spacing).ravel().tolist()
