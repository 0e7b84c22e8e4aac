"""Endpoints of MONAI Label run in threads, so that viewers are answered while something is computed.

MONAI Label 0.8.5 (`monailabel.endpoints`) declares each endpoint `async def` and calls what blocks in it: a
model, a database, `requests` to the PACS. FastAPI runs such a function inside the event loop, so one
inference of ten seconds stops every image that OHIF loads through `/proxy` for ten seconds. Here the same
functions run in threads. A thread belongs to the pool of one
kind of work, which waits for the same thing: a PACS that hangs keeps transfers waiting, never `/info/`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fastapi import BackgroundTasks, HTTPException, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import FileResponse, JSONResponse
from fastapi.routing import RouteContext, iter_route_contexts

from lib.server.boundary.arguments import checked
from lib.server.boundary.forms import check_form, takes_form
from lib.server.boundary.sending import HeldFile
from lib.server.boundary.uploads import REPLACEMENTS
from lib.server.upstream.application import running_application
from lib.server.upstream.proxy import guarded

_ENDPOINTS = "monailabel.endpoints."
_FORM = "request with a form"  # no endpoint has an argument of this name
_SWITCH_S = 0.001  # after so long a thread that computes in Python lets the loop on; usual are 5 ms

Endpoint = Callable[..., Coroutine[Any, Any, Any]]


@dataclass(eq=False)
class WorkerPool:
    """Threads for one kind of work, and places to wait for them.

    Attributes:
        workers: Requests that run at the same time.
        places: Requests that may wait; one more is refused.
        retry_after: Seconds after which a refused client should ask again.
        nice: Added to the threads' niceness, where the system has one for a thread.
    """

    workers: int
    places: int
    retry_after: int
    nice: int = 0
    _inside: int = field(default=0, init=False)  # changed in the event loop only

    def __post_init__(self) -> None:
        """All threads are free."""
        self._threads = ThreadPoolExecutor(self.workers, initializer=_lower_priority, initargs=(self.nice,))

    async def run(self, work: Callable[[], Response]) -> Response:
        """Do it in a thread, in the order of asking. A client that went away changes nothing.

        Raises:
            HTTPException: 503 with Retry-After if all places are taken.
        """
        if self._inside >= self.workers + self.places:
            raise HTTPException(
                503,
                f"The server is busy: {self._inside} requests like this one run or wait. Ask again in "
                f"{self.retry_after} seconds.",
                headers={"Retry-After": str(self.retry_after)},
            )
        self._inside += 1
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        running.add_done_callback(self._leave)
        return await asyncio.shield(running)

    def _leave(self, done: asyncio.Future[Response]) -> None:
        self._inside -= 1
        done.cancelled() or done.exception()  # nobody may be waiting for it any more


class WorkerPools:
    """Which request runs in which pool."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        # One case is segmented at a time; the other threads answer what was segmented before.
        # What computes, and every thread that it starts, gives way to who answers a viewer.
        self.computing = WorkerPool(workers=4, places=16, retry_after=10, nice=10)
        # A browser asks for a whole series ahead, some hundred images; a PACS that hangs keeps them all.
        self.images = WorkerPool(workers=16, places=512, retry_after=2)
        self.transfers = WorkerPool(workers=16, places=256, retry_after=2)
        # MONAI Label looks whether a task runs, then starts one: not for two requests at a time.
        self.tasks = WorkerPool(workers=1, places=16, retry_after=2)
        self.light = WorkerPool(workers=8, places=256, retry_after=2)
        self._of = {
            "infer": self.computing,
            "wsi_infer": self.computing,
            "proxy": self.images,
            "datastore": self.transfers,
            "session": self.transfers,
            "model": self.transfers,
            "login": self.transfers,
            "batch_infer": self.tasks,
            "scoring": self.tasks,
            "train": self.tasks,
        }

    def of(self, endpoint: Endpoint, arguments: dict[str, Any]) -> WorkerPool:
        """Pool of a request to one of MONAI Label's endpoints."""
        if arguments.get("run_sync") or endpoint.__name__ == "api_download_dataset":
            return self.computing  # minutes
        return self._of.get(endpoint.__module__.removeprefix(_ENDPOINTS), self.light)


def _lower_priority(nice: int) -> None:
    if nice and sys.platform == "linux":  # elsewhere it would be the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


def keep_loop_free() -> bool:
    """Run MONAI Label's endpoints in threads from now on; what they answer stays as it is.

    MONAI Label makes its application before it makes an app, so this changes the routes that are there.

    Returns:
        False outside a server process, where there is nothing to change.
    """
    application = running_application()
    if application is None:
        return False
    sys.setswitchinterval(_SWITCH_S)
    if not hasattr(application.state, "pools"):  # `/reload` makes our app anew, not the application
        application.state.pools = pools = WorkerPools()
        making_app = threading.Lock()
        for route in iter_route_contexts(application.routes):
            endpoint = route.endpoint
            if endpoint is not None and endpoint.__module__.startswith(_ENDPOINTS):
                if endpoint.__module__ == f"{_ENDPOINTS}proxy":
                    endpoint = guarded(endpoint)
                # FastAPI reads these at each request; the signature and the schema are made already.
                if takes_form(route.dependant):
                    route.dependant.request_param_name = _FORM
                route.dependant.call = _in_thread(endpoint, route, pools, making_app)
    return True


def _in_thread(
    endpoint: Endpoint, route: RouteContext, pools: WorkerPools, making_app: threading.Lock
) -> Endpoint:
    from monailabel.interfaces.utils.app import app_instance

    ours = REPLACEMENTS.get(f"{endpoint.__module__.removeprefix(_ENDPOINTS)}.{endpoint.__name__}")

    def work(arguments: dict[str, Any]) -> Any:
        with making_app:  # the others wait for the same app
            app_instance()
        fitting = checked(endpoint, arguments)
        try:
            answer = ours(**_taken_by(ours, fitting)) if ours else asyncio.run(endpoint(**fitting))
            if isinstance(answer, FileResponse):
                return HeldFile.of(answer)
        finally:
            _run_now(fitting.get("background_tasks"))
        if isinstance(answer, Response) or route.response_model is not None:
            return answer
        return JSONResponse(jsonable_encoder(answer))  # a listing of many cases takes its time

    @functools.wraps(endpoint)
    async def call(**arguments: Any) -> Any:
        if form := arguments.pop(_FORM, None):
            await check_form(form)
        for argument in arguments.values():
            if isinstance(argument, Request):
                await argument.body()  # comes through this loop; a thread could not wait for it
        asked = contextvars.copy_context()  # by whom
        return await pools.of(endpoint, arguments).run(functools.partial(asked.run, work, arguments))

    return call


def _taken_by(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: arguments[name] for name in inspect.signature(function).parameters}


def _run_now(tasks: BackgroundTasks | None) -> None:
    """Remove what an endpoint wrote for its answer, which is open or in memory by now.

    FastAPI would do so after the answer was sent; a client that goes away in between leaves the files there.
    """
    if tasks is not None:
        asyncio.run(tasks())
        tasks.tasks.clear()
