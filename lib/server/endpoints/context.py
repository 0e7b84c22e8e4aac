"""What the page's endpoints answer from."""

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
from lib.runtime.own_files import Unavailable
from lib.server.boundary.sending import HeldFile
from lib.server.datastore import CaseDatastore
from lib.server.endpoints.explanations import Explanations
from lib.server.errors import ClientError
from lib.views.documents.case_files import NotThere


@dataclass(frozen=True, eq=False)
class Served:
    """One running app.

    Attributes:
        workspace: Its cases, plan and models.
        datastore: Its labels.
        segmenter: Its current model.
        trouble: Tells what keeps studies from coming in or labels from going out; empty where nothing does.
    """

    workspace: Workspace
    datastore: CaseDatastore
    segmenter: Segmenter
    trouble: Callable[[], str] = str

    @cached_property
    def explanations(self) -> Explanations:
        """Made one at a time."""
        return Explanations(self.segmenter)

    def case(self, name: str) -> Case:
        """A case, in quarantine too: the page shows why.

        Args:
            name: Of a case or of one of its volumes; it is looked up, never opened.

        Raises:
            Refusal: 404 if there is none.
        """
        try:
            return self.workspace.pool.resolve(name)[0]
        except UserError as err:
            raise ClientError(str(err), status=404) from err


def served(request: Request) -> Served:
    """The app that answers."""
    app: Served = request.app.state.served
    return app


@contextmanager
def answering() -> Iterator[None]:
    """Turn what the domain refuses into a status and its sentence.

    Raises:
        Refusal: 404 for what a case does not have, 409 where a file of the case or the model does not fit,
            503 where what we keep cannot be used.
    """
    try:
        yield
    except ClientError:
        raise
    except NotThere as err:
        raise ClientError(str(err), status=404) from err
    except Unavailable as err:
        raise ClientError(str(err), status=503) from err
    except ValueError as err:
        raise ClientError(str(err), status=409) from err


def sent(path: Path, media_type: str, **options: Any) -> HeldFile:
    """A file that one person's browser may keep, if it asks each time whether it is still the same."""
    return HeldFile(path, media_type=media_type, headers={"Cache-Control": "private, no-cache"}, **options)
