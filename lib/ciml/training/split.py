"""Split of the patients into training and validation, decided once for each patient."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from lib.runtime.files import replacing
from lib.runtime.own_files import Damaged, as_damaged, read_document

Side = Literal["training", "validation"]
_RESTORE = (
    "It says which patients validate: restore it from a backup. Move it away if there is none; patients that "
    "a model was trained on may validate it then."
)


def split_patients(path: Path, patients: Iterable[str], *, share: float) -> set[str]:
    """Assign new patients to training or validation, and return the validation patients among `patients`.

    A patient never changes sides, so no validation patient is ever trained on. New patients are assigned in
    the order of a hash of their name, each to the side that is below its share. The first two patients go to
    different sides.

    Args:
        path: JSON file of the split.
        patients: Patients with labels, at least two.
        share: Share of the patients used for validation.

    Raises:
        ValueError: If the file is damaged, or fewer than two patients are given.
    """
    wanted = set(patients)
    if len(wanted) < 2:
        raise ValueError(f"a split needs at least two patients; got {len(wanted)}.")
    sides = _kept(path)
    for patient in sorted(wanted - sides.keys(), key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        held_out = sum(side == "validation" for side in sides.values())
        short = held_out < max(1.0, share * (len(sides) + 1)) and len(sides) > held_out
        sides[patient] = "validation" if short else "training"
    with replacing(path) as part:
        part.write_text(json.dumps(sides, indent=1, sort_keys=True))
    return {patient for patient in wanted if sides[patient] == "validation"}


def _kept(path: Path) -> dict[str, Side]:
    try:
        return read_document(path, dict[str, Side])
    except FileNotFoundError:
        return {}
    except Damaged as err:
        raise as_damaged(path, err, restore=_RESTORE) from err
