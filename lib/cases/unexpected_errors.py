"""Conversion of unexpected exceptions into an error of the case or file that caused them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from lib.cases.case import CaseError
from lib.runtime.errors import UserError

logger = logging.getLogger(__name__)


@contextmanager
def as_case_error(what: str) -> Iterator[None]:
    """Turn unexpected exceptions about one case, series, study, segmentation or file into a `CaseError`.

    Damaged files make libraries raise nearly any exception, and one damaged file must not stop the work on
    the others. A `UserError` passes unchanged; the traceback of any other exception is logged.

    Args:
        what: Name of the case, series or file that is being read; the message begins with it.

    Raises:
        CaseError: In place of any exception that is no `UserError`.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as err:
        logger.warning("%s could not be read", what, exc_info=True)
        reason = (isinstance(err, OSError) and err.strerror) or type(err).__name__
        raise CaseError(
            f"{what} must be readable; reading it failed in an unexpected way ({reason}); the log has the "
            "details. Export it again or leave it out."
        ) from err
