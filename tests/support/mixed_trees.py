"""Studies folders in which cases of a layout lie among everything else that people keep there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from lib.cases.formats.dicom import read_series
from lib.cases.pool import Pool
from tests.support.images import write_image, write_series


def touch(path: Path) -> Path:
    """An empty file; finding cases reads names, not images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def write_clutter(root: Path) -> None:
    """More than 200 files that are no case of any layout, or of another layout than the root's."""
    for number in range(40):
        touch(root / "notes" / f"{number}.txt")
        touch(root / "q" / str(number % 5) / "deep" / f"image{number}.nii.gz")
        touch(root / "tables" / f"sheet{number}.tsv")
        touch(root / f"{number}.json")
        touch(root / "odd" / f"{number}.{('mgz', 'png', 'gz', 'hdr')[number % 4]}")
    for name in ("README", "a.pdf", "b.mgz", "wibble.nii.gz", "IM0001", "x.dcm", "ü.bvec", "plan.csv"):
        touch(root / name)
    for name in (".DS_Store", ".mdal/plan.sqlite", "._p_T1.nii.gz", "labels/p.nii.gz", "model/m.pt"):
        touch(root / name)
    for name in ("logs/server.log", "bin/tool", "datastore_v2.json", "__MACOSX/._p_T1.nii.gz"):
        touch(root / name)
    (root / "empty").mkdir()
    (root / "gone").symlink_to("nowhere")
    (root / "outside.nii.gz").symlink_to(root.parent / "elsewhere.nii.gz")
    (root / "again").symlink_to("notes")
    (root / "notes" / "up").symlink_to("..")
    os.mkfifo(root / "pipe")
    touch(root / "series" / "text")


def _flat(root: Path) -> None:
    for name in ("p1_T1", "p1_T1w", "p1_FLAIR", "p1_seg", "p1_mask", "p2_T1_bias", "p3_seg", "p4_tumor_mask"):
        touch(root / f"{name}.nii.gz")


def _folder(root: Path) -> None:
    for name in ("T1", "t1w", "SUV", "PET", "seg", "GTV", "left_CT", "FLAIR_x"):
        touch(root / "p1" / f"{name}.nii.gz")
    touch(root / "p2" / "s1" / "T1.nii.gz")
    touch(root / "p2" / "s1" / "extra" / "note.txt")
    touch(root / "p5" / "label.nii.gz")
    touch(root / "p6^, x" / "CT.nii.gz")
    touch(root / "p6^, x" / "seg.nii.gz")


def _brats(root: Path) -> None:
    for place in ("a", "b"):
        for word in ("t1n", "t1c", "seg", "zzz"):
            touch(root / place / f"BraTS-GLI-00001-000-{word}.nii.gz")
    touch(root / "b" / "BraTS-GLI-00001-000-t2f.nii.gz")
    touch(root / "b" / "BraTS_wrong.nii.gz")


def _nnunet(root: Path) -> None:
    for name in (
        "a_0000.nii.gz",
        "a_0000.nrrd",
        "a_0001.nii.gz",
        "a_0007.nii.gz",
        "odd.nii.gz",
        "._a.nii.gz",
    ):
        touch(root / "imagesTr" / name)
    for name in ("a_0000.nii.gz", "b_0000.nii.gz", "n.txt"):
        touch(root / "imagesTs" / name)
    for name in ("a.nii.gz", "a.nrrd", "zz.nii.gz"):
        touch(root / "labelsTr" / name)
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1", "1": "T2"}}))


def _decathlon(root: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_image(root / "imagesTr" / name, shape=(3, 3, 3, 2))
    write_image(root / "imagesTr" / "c.nii.gz", shape=(3, 3, 3, 5))
    touch(root / "labelsTr" / "a.nii.gz")
    touch(root / "labelsTr" / "z.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"modality": {"0": "T1", "1": "T2"}}))


def _bids(root: Path) -> None:
    touch(root / "dataset_description.json")
    for name in ("T1w", "run-2_T1w", "ce-gad_T1w", "ce-gad_FLAIR", "part-phase_T1w", "T2star"):
        touch(root / "sub-01" / "ses-1" / "anat" / f"sub-01_ses-1_{name}.nii.gz")
        touch(root / "sub-01" / "ses-1" / "anat" / f"sub-01_ses-1_{name}.json")
    touch(root / "sub-01" / "ses-1" / "anat" / "sub-02_ses-1_T2w.nii.gz")
    for name in ("label-lesion_mask", "dseg", "desc-brain_mask", "bold"):
        touch(root / "derivatives" / "x" / "sub-01" / f"sub-01_ses-1_{name}.nii.gz")
    touch(root / "derivatives" / "x" / "sub-09_mask.nii.gz")
    touch(root / "sourcedata" / "scan.nii.gz")


def _dicom(root: Path) -> None:
    for name in ("CT", "more"):
        write_series(root / "p1" / name, modality="CT", description="", study="1.2")
    write_series(root / "p1" / "short", modality="MR", description="t1", study="1.2", slices=1)
    write_series(root / "p1" / "what", modality="MR", description="wibble", study="1.2")
    touch(root / "p1" / "CT" / "note.txt")
    touch(root / "p1" / "CT" / "contour.nii.gz")
    touch(root / "p1" / "CT" / "below" / "note.txt")


def _none(root: Path) -> None:
    touch(root / "a" / "b" / "scan.nii.gz")


MIXED: dict[str, Callable[[Path], None]] = {
    "flat": _flat,
    "folder": _folder,
    "brats": _brats,
    "nnunet": _nnunet,
    "decathlon": _decathlon,
    "bids": _bids,
    "dicom": _dicom,
    "none": _none,
}


def used_files(pool: Pool) -> set[Path]:
    """Every file that a case of the pool reads."""
    used = {case.label for case in pool.cases if case.label}
    for source in (source for case in pool.cases for source in case.modalities.values()):
        used |= (
            {source.path} if not source.path.is_dir() else {*read_series(source.path, source.series).files}
        )
    return used


def visible_files(root: Path) -> set[Path]:
    """Every file, link, pipe or device that is neither hidden nor the server's own."""
    found = set()
    for place, folders, files in os.walk(root):
        own = {"labels", "model", "logs", "bin", "datastore_v2.json"} if Path(place) == root else set()
        links = [name for name in folders if Path(place, name).is_symlink()]
        kept = [name for name in (*files, *links) if not name.startswith(".") and name not in own]
        found |= {Path(place, name) for name in kept}
        folders[:] = [name for name in folders if not name.startswith(".") and name not in own]
    return found
