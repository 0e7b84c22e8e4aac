"""Where a label comes from, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lib.cases.formats.image import Volume
from lib.labels.versions import Kind, LabelVersion


@dataclass(frozen=True)
class Origin:
    """Who sent a label, and from what it began.

    Attributes:
        kind: How the label came.
        reader: Name of the reader or of the model; empty if it is not known.
        client: Program or machine that sent it.
        about: What it began from, and the time that the reader took; JSON.
        begun_from: Mask (uint8) of the pre-segmentation that the reader began from, if it is known.
    """

    kind: Kind = "submitted"
    reader: str = ""
    client: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    begun_from: Volume | None = None


UNKNOWN = Origin()


@dataclass(frozen=True)
class Saved:
    """A stored version.

    Attributes:
        version: The version, which is current now.
        before: The version that was current before; None if there was no label.
        warnings: Sentences for the reader.
    """

    version: LabelVersion
    before: LabelVersion | None
    warnings: tuple[str, ...] = ()
