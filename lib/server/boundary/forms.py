"""Forms that clients send: one that would be read otherwise than it was meant is refused."""

from __future__ import annotations

from collections import Counter

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.params import Form

from lib.server.errors import ClientError

_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")


def takes_form(dependant: Dependant) -> bool:
    """Whether an endpoint reads a form; it would take any other body for an empty form."""
    return any(isinstance(param.field_info, Form) for param in dependant.body_params)


async def check_form(request: Request) -> None:
    """Check that the body is a form that gives each field once.

    Raises:
        ClientError: 415 if the body is no form, 400 if it gives a field twice, of which one would be dropped.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _FORMS:
        if await request.body():
            raise ClientError(
                f"the body must be a form ({' or '.join(_FORMS)}); got {kind[:40] or 'no content type'!r}. "
                "Nothing was stored.",
                status=415,
            )
        return
    check_given_once([name for name, _ in (await request.form()).multi_items()])


def check_given_once(names: list[str]) -> None:
    """Check that no name is given twice.

    Raises:
        ClientError: If a name is given twice.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ClientError(f"{repeated[0][:40]!r} must be given once; it is given twice or more. Send one.")
