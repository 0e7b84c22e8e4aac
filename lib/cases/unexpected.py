"""The one place where an exception that nobody foresaw becomes an error of what was being looked at."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from lib.cases.case import CaseError
from lib.runtime.errors import UserError

logger = logging.getLogger(__name__)


@contextmanager
def looking_at(what: str) -> Iterator[None]:
    """Turn whatever goes wrong with one case, series, study, segmentation or file into a `CaseError` of it.

    Damaged files make libraries raise nearly anything, and none of it may stop the work on the others. A
    sentence that is there already passes; the traceback of anything else goes to the log.

    Args:
        what: What is being looked at, as a sentence begins with it.

    Raises:
        CaseError: In place of any other exception.
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
