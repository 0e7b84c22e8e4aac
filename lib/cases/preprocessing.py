"""Cases as memory-mapped arrays: all modalities on the reference grid, normalised, and cached on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib.cases.body import body_mask
from lib.cases.case import Case, CaseError, Source
from lib.cases.formats.image import MAX_VOXELS, Grid, Volume, read_volume, resample
from lib.cases.modalities import REFERENCE_ORDER, kind
from lib.cases.records import Records
from lib.runtime.disk_cache import PART, evict_least_recently_used
from lib.runtime.own_files import UNREADABLE, map_array, set_aside

logger = logging.getLogger(__name__)
_PART_HOURS = 24.0  # age at which the leftovers of a killed process are removed
FORMAT_VERSION = 1  # raise when the arrays below change their meaning


@dataclass(frozen=True)
class Preparation:
    """Settings for turning cases into arrays; part of the cache key.

    Attributes:
        modalities: Channels of the array in order; the channel of a missing modality is zero.
        reference: Modality that gives the grid; a case without it takes the best of its other modalities.
        ct_window: HU that are mapped to -1 and 1; soft tissue by default.
        pet_ceiling: SUV that is mapped to 1; uptake is clipped at 4 times this value.
        max_voxels: Largest number of voxels; a larger volume is refused from its header.
    """

    modalities: tuple[str, ...]
    reference: str
    ct_window: tuple[float, float] = (-160.0, 240.0)
    pet_ceiling: float = 5.0
    max_voxels: int = MAX_VOXELS

    def __post_init__(self) -> None:
        """Refuse a reference that is not one of the modalities."""
        if self.reference not in self.modalities:
            raise CaseError(
                f"reference must be one of {', '.join(self.modalities)}; got {self.reference!r}. "
                "Set --conf reference."
            )

    def reference_of(self, case: Case) -> str:
        """Modality that gives the grid of a case."""
        order = (self.reference, *REFERENCE_ORDER, *case.modalities)
        return next(name for name in order if name in case.modalities)


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """One case, ready for a network.

    Attributes:
        id: Id of the case.
        modalities: Names of the M modalities, in the order of the channels.
        array: Normalised voxels, shape (M, D, H, W), float16, memory-mapped, read-only.
        foreground: Voxels inside the body on the reference, shape (D, H, W), bool.
        present: Whether the case has each modality, shape (M,), bool; the channel of a missing one is zero.
        grid: Grid of the reference.
    """

    id: str
    modalities: tuple[str, ...]
    array: NDArray[np.float16]
    foreground: NDArray[np.bool_]
    present: NDArray[np.bool_]
    grid: Grid


class VolumeCache:
    """Disk cache of prepared cases by content and settings; limited in bytes, safe between processes."""

    def __init__(self, folder: Path, preparation: Preparation, records: Records, *, max_bytes: int) -> None:
        """Keep at most `max_bytes` in `folder`; the least recently used cases are evicted first."""
        self.folder, self.preparation, self.records, self.max_bytes = folder, preparation, records, max_bytes
        folder.mkdir(parents=True, exist_ok=True)
        for part in folder.glob(f"{PART}*"):
            if time.time() - part.stat().st_mtime > 3600.0 * _PART_HOURS:
                shutil.rmtree(part, ignore_errors=True)

    def key(self, case: Case) -> str:
        """Name of a case's entry: a hash of its content and of the settings."""
        text = json.dumps([FORMAT_VERSION, self.records.content_hash(case), asdict(self.preparation)])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def get(self, case: Case) -> PreparedCase:
        """Prepared case, from the cache or prepared now.

        Raises:
            CaseError: If a file of the case cannot be used.
        """
        entry = self.folder / self.key(case)
        kept = self._kept(entry)
        if kept is None:
            self._store(entry, prepare(case, self.preparation))
            os.utime(entry)
            kept = _load(entry)
        return kept

    def size(self) -> int:
        """Size of the cache in bytes."""
        return sum(file.stat().st_size for file in self.folder.glob("*/*"))

    def _kept(self, entry: Path) -> PreparedCase | None:
        """Cached case, or None; a damaged entry is set aside and counts as missing."""
        try:
            os.utime(entry)
        except FileNotFoundError:
            return None
        try:
            return _load(entry)
        except UNREADABLE as err:
            set_aside(entry, f"{err}. The case is prepared again.")
            return None

    def _store(self, entry: Path, case: PreparedCase) -> None:
        part = Path(tempfile.mkdtemp(prefix=PART, dir=self.folder))
        try:
            np.save(part / "array.npy", case.array)
            np.save(part / "foreground.npy", case.foreground)
            meta = {
                "id": case.id,
                "modalities": case.modalities,
                "present": case.present.tolist(),
                "affine": case.grid.affine.tolist(),
            }
            (part / "case.json").write_text(json.dumps(meta))
            self._make_room(sum(file.stat().st_size for file in part.iterdir()))
            try:
                part.rename(entry)
            except OSError:  # another process has just stored the same case
                if not (entry / "case.json").exists():
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _make_room(self, needed: int) -> None:
        if needed > self.max_bytes:
            raise CaseError(
                f"the cache must hold at least one case ({needed / 1e6:.0f} MB); it is bounded to "
                f"{self.max_bytes / 1e6:.0f} MB. Raise --conf disk_gb."
            )
        entries = [entry for entry in self.folder.iterdir() if not entry.name.startswith(PART)]
        evict_least_recently_used(entries, self.max_bytes, needed=needed)


def prepare(case: Case, preparation: Preparation) -> PreparedCase:
    """Read every modality of a case, resample it to the reference's grid and normalise it.

    Raises:
        CaseError: If a file cannot be read or holds values that are not finite.
    """
    reference = preparation.reference_of(case)
    names = [name for name in preparation.modalities if name in case.modalities]
    with ThreadPoolExecutor() as threads:  # decompression lets other threads run
        read = threads.map(lambda name: _read_finite(case.modalities[name], preparation.max_voxels), names)
        volumes = dict(zip(names, read, strict=True))
    grid = volumes[reference].grid
    foreground = body_mask(volumes[reference].array, reference)
    array = np.zeros((len(preparation.modalities), *grid.shape), dtype=np.float16)
    for channel, name in enumerate(preparation.modalities):
        if name in volumes:
            array[channel] = normalise(_on_grid(volumes[name], grid, name), name, foreground, preparation)
    present = np.array([name in volumes for name in preparation.modalities])
    return PreparedCase(case.id, preparation.modalities, array, foreground, present, grid)


def normalise(
    array: NDArray[Any], modality: str, foreground: NDArray[np.bool_], preparation: Preparation
) -> NDArray[np.float16]:
    """Voxels scaled to about unit size, depending on the kind of modality.

    CT: the HU window mapped to [-1, 1], clipped. PET: SUV / ceiling, clipped to [0, 4]. MR: z-score inside
    the foreground, clipped to [-5, 5], zero outside.

    Args:
        array: Voxels in HU, SUV or arbitrary units, shape (D, H, W).
        modality: Name of the modality.
        foreground: Voxels for the MR statistics, shape (D, H, W).
        preparation: CT window and PET ceiling.
    """
    match kind(modality):
        case "CT":
            low, high = preparation.ct_window
            scaled = np.clip((array - low) / (high - low) * 2.0 - 1.0, -1.0, 1.0)
        case "PET":
            scaled = np.clip(array / preparation.pet_ceiling, 0.0, 4.0)
        case _:
            where = foreground if foreground.any() else np.ones(array.shape, dtype=bool)
            inside = array[where]  # skips the outside, which is most of a head scan
            deviation = float(inside.std())
            scaled = np.zeros(array.shape, dtype=np.float16)
            scaled[where] = np.clip((inside - inside.mean()) / (deviation or 1.0), -5.0, 5.0)
    return np.asarray(scaled, dtype=np.float16)


def _read_finite(source: Source, max_voxels: int) -> Volume:
    volume = read_volume(source, max_voxels=max_voxels)
    others = volume.array.size - int(np.count_nonzero(np.isfinite(volume.array)))
    if others:
        raise CaseError(
            f"{source.name} must hold finite values; {others:,} of {volume.array.size:,} voxels are NaN or "
            "infinity. Export it again."
        )
    return volume


def _on_grid(volume: Volume, grid: Grid, modality: str) -> NDArray[Any]:
    return resample(volume, grid, fill=-1000.0 if kind(modality) == "CT" else 0.0).array


def _load(entry: Path) -> PreparedCase:
    """Load a cached case; raises one of `UNREADABLE` if its files are damaged or do not match."""
    meta = json.loads((entry / "case.json").read_text())
    array, foreground = map_array(entry / "array.npy"), map_array(entry / "foreground.npy")
    present = np.array(meta["present"])
    whole = array.ndim == 4 and array.shape[1:] == foreground.shape and array.dtype == np.float16
    if not whole or (len(array),) != present.shape or len(array) != len(meta["modalities"]):
        raise ValueError("its arrays do not fit each other")
    grid = Grid(array.shape[1:], np.array(meta["affine"]))
    return PreparedCase(meta["id"], tuple(meta["modalities"]), array, foreground, present, grid)
