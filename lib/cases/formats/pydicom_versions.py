"""What pydicom 2 and pydicom 3 name differently; MONAI Label's release needs 2, its main branch needs 3."""

from __future__ import annotations

from pydicom.dataset import FileDataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

__all__ = ["WHOLE_FILE", "generate_frames", "get_expected_length", "syntax_as_read"]

try:
    from pydicom.encaps import generate_frames  # type: ignore[attr-defined]
    from pydicom.pixels.utils import get_expected_length

    WHOLE_FILE = {"enforce_file_format": True}  # of `dcmwrite`: with preamble and file meta information
except ImportError:  # pydicom 2
    from collections.abc import Iterator

    from pydicom.encaps import generate_pixel_data_frame
    from pydicom.pixel_data_handlers.util import get_expected_length

    WHOLE_FILE = {"write_like_original": False}

    def generate_frames(buffer: bytes, *, number_of_frames: int) -> Iterator[bytes]:
        """Each compressed frame, whole though it may be in several pieces."""
        return generate_pixel_data_frame(buffer, number_of_frames)


def syntax_as_read(dataset: FileDataset) -> UID:
    """Transfer syntax by which a file that does not name one was read."""
    if hasattr(dataset, "original_encoding"):
        implicit, little = dataset.original_encoding
    else:  # pydicom 2
        implicit, little = dataset.read_implicit_vr, dataset.read_little_endian
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian
