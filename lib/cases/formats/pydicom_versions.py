"""What pydicom 2 and pydicom 3 name differently; MONAI Label's release needs 2, its main branch needs 3."""

from __future__ import annotations

__all__ = ["WHOLE_FILE", "generate_frames", "get_expected_length"]

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
