"""Context shared by the page's endpoints: the running app, its errors and its files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fastapi import Request

from lib.cases.case import Case
from lib.pipeline.segmentation import Segmenter
from lib.pipeline.workspace import Workspace
from lib.runtime.errors import UserError
from lib.server.boundary.sending import HeldFile
from lib.server.datastore import CaseDatastore
from lib.server.endpoints.explanations import Explanations
from lib.server.errors import ClientError, client_error
from lib.views.documents.case_files import NotThere


@dataclass(frozen=True, eq=False)
class Served:
    """The running app.

    Attributes:
        workspace: Workspace with the cases, the plan and the models.
        datastore: Datastore with the labels.
        segmenter: Segmenter with the current model.
        trouble: Returns the problem that keeps studies from coming in or labels from going out, or "".
    """

    workspace: Workspace
    datastore: CaseDatastore
    segmenter: Segmenter
    trouble: Callable[[], str] = str

    @cached_property
    def explanations(self) -> Explanations:
        """Explanations of the cases, computed one at a time."""
        return Explanations(self.segmenter)

    def case(self, name: str) -> Case:
        """A case by name; quarantined cases too, as the page shows the reason.

        Args:
            name: Name of a case or of one of its volumes; it is only looked up, never opened.

        Raises:
            ClientError: 404 if there is no such case.
        """
        try:
            return self.workspace.pool.resolve(name)[0]
        except UserError as err:
            raise ClientError(str(err), status=404) from err


def served(request: Request) -> Served:
    """The app that answers a request."""
    app: Served = request.app.state.served
    return app


@contextmanager
def client_errors() -> Iterator[None]:
    """Turn errors of the domain into an HTTP status and a sentence.

    Raises:
        ClientError: 404 for something that a case does not have, 409 where a file of the case or the model
            does not fit, 503 where a file or the database of the program cannot be used, 507 where its disk
            is full.
    """
    try:
        yield
    except ClientError:
        raise
    except NotThere as err:
        raise ClientError(str(err), status=404) from err
    except ValueError as err:
        raise client_error(err, status=409) from err


def file_response(path: Path, media_type: str, **options: Any) -> HeldFile:
    """Response with a file; the browser may cache it but must revalidate it each time."""
    return HeldFile(path, media_type=media_type, headers={"Cache-Control": "private, no-cache"}, **options)
