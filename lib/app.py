"""The MONAI Label app: wiring and nothing else."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.async_tasks.utils import tasks

from lib import VERSION
from lib.background import check_in_background, stop_jobs_at_the_end
from lib.cases.case import Case
from lib.cases.own_files import Unavailable
from lib.checking import CHECK
from lib.datastores.exchange import SegmentationExchange
from lib.datastores.local import CaseDatastore
from lib.lifetime import known_as_server
from lib.planning import is_current
from lib.prefetch import Prefetcher
from lib.refusal import Refusal, offered
from lib.repeated import Repeated
from lib.settings import read_settings
from lib.site import Site, is_address, release_modalities
from lib.tables import as_text, check_table, pool_table
from lib.tasks.infer import CimlInfer
from lib.tasks.scoring import ModalityDifferenceScoring
from lib.tasks.strategies import PlannedStrategy, annotator_of
from lib.tasks.train import CimlTrain
from lib.temporary import keep_private
from lib.web.application import running_application
from lib.web.boundary import set_boundary
from lib.web.context import Served
from lib.web.exposure import listening_host, warning_of_open_door
from lib.web.login import mend_login
from lib.web.ohif import mend_panel
from lib.web.page import offer_page
from lib.web.peers import Hands, peer
from lib.web.responsive import keep_loop_free

RECHECK_S = 600.0  # after which a check that failed, or lacked series of the PACS, is made again
_TRIED_AGAIN = "the server's log says why. It is tried again within minutes."
_STOPPED = (-signal.SIGINT, -signal.SIGTERM)  # exit status of a check that somebody ended
LISTING_SHARE = 0.01  # of the time that a folder is being listed: computing, which holds up those who ask
logger = logging.getLogger(__name__)
# MONAI Label logs each answer of Next Sample, and with it the PatientID that OHIF's form shows
logging.getLogger("monailabel.endpoints.activelearning").setLevel(logging.WARNING)


class MdalCimlApp(MONAILabelApp):
    """Multimodal cases: which to label first (MDAL), where the lesion is (CIML)."""

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, Any]) -> None:
        """Find the cases and offer the tasks; nothing is computed yet.

        Raises:
            MONAILabelException: If a setting or the studies do not fit.
        """
        serves = running_application() is not None
        if serves:
            release_modalities()
            os.environ.update(known_as_server())
            self._stopping = stop_jobs_at_the_end()
        try:
            settings = read_settings(conf)
            if serves and (
                warning := warning_of_open_door(listening_host(), require_login=settings.require_login)
            ):
                logger.warning(warning)
            self.site = Site(studies, settings)
            self.site.validate()
        except ValueError as err:
            raise MONAILabelException(MONAILabelError.APP_INIT_ERROR, str(err)) from err
        if serves:
            self.site.hold_modalities()
            keep_private(self.site.work, Path(app_dir) / "logs")
        self._hands = Hands()
        self.prefetcher: Prefetcher | None = None  # only a server segments ahead
        self.exchange: SegmentationExchange | None = None  # and exchanges labels with a PACS
        self.listing: Repeated | None = None  # or looks what comes to a folder
        super().__init__(
            app_dir,
            studies,
            dict(conf),
            name="MDAL-CIML",
            version=VERSION,
            description="Which multimodal cases to label first, and a segmentation that learns from them",
        )
        self.segmenter = self._infers["ciml"].segmenter
        offer_page(Served(self.site, self._datastore, self.segmenter, self._trouble))
        mend_login()
        mend_panel()
        keep_loop_free()
        set_boundary(settings)

    def init_datastore(self) -> Datastore:
        """Cases as images."""
        try:
            return CaseDatastore(self.site)
        except ValueError as err:
            raise MONAILabelException(MONAILabelError.APP_INIT_ERROR, str(err)) from err

    def init_infers(self) -> dict[str, InferTask]:
        """One model."""
        return {"ciml": CimlInfer(self.site)}

    def init_trainers(self) -> dict[str, TrainTask]:
        """One trainer: clients read the statistics of the first only."""
        return {"ciml": CimlTrain(self.site)}

    def init_strategies(self) -> dict[str, Strategy]:
        """Every order of the plan; `random`, the only name that OHIF asks for, is the site's default."""
        strategies = {name: PlannedStrategy(self.site, name) for name in self.site.settings.strategies}
        return {**strategies, "random": strategies[self.site.settings.strategy]}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """One method."""
        return {"mdal": ModalityDifferenceScoring(self.site)}

    def on_init_complete(self) -> None:
        """Check the pool, then score it if it changed; a small pool on disk is not served before."""
        super().on_init_complete()
        gc.freeze()  # what is here stays: looking through it for garbage holds every reader up for 0.4 s
        self._start_check()
        if not is_address(self.site.address) and len(self.site.pool.cases) <= self.site.settings.check_first:
            self._checking.join()
        self.prefetcher = Prefetcher(self.site, self._datastore.labelled)
        self.prefetcher.start()
        if is_address(self.site.address):
            self.exchange = SegmentationExchange(
                self.site, self._datastore.labels, on_taken=self._has_label, on_listed=self._listed
            )
            self.exchange.start()
        else:
            self.listing = Repeated(
                lambda: self._listed(self.site.refresh(settled=True)),
                name="listing",
                every_s=self.site.settings.refresh_s,
                share=LISTING_SHARE,
                failing="the studies stay as they were last seen",
            )
            self.listing.start(at_once=False)

    def async_scoring(self, method: str | None, params: Any = None) -> Any:
        """Enqueue scoring; the automatic one only once the pool is checked, and only if the pool changed.

        MONAI Label asks for it at start, after training and at each Next Sample; a child process a time would
        be started to find that nothing changed.
        """
        queued = any(task["status"] in ("SUBMITTED", "RUNNING") for task in tasks("scoring"))
        if method is None and (queued or not self.site.verdicts or self._plan_is_current()):
            return {}
        return super().async_scoring(method, params)

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The next case by the strategy that the request names."""
        strategy = offered("strategy", str(request.get("strategy") or "random"), self._strategies)
        name = annotator_of(request.get("client_id"))
        self._hands.take(peer.get(), name, lambda: self.site.plan.desk(name).annotators)
        answer: dict[str, Any] = strategy(request, self._datastore)
        if answer and answer["mdal"]["state"] in ("interrupted", "done") and self._auto_update_scoring:
            self.async_scoring(None)  # whoever scored was killed, or made a plan without this strategy
        if not answer:
            return {}
        if self.prefetcher:
            self.prefetcher.look(offered=answer["id"])
        # a client that finds no file there asks for the image
        return {**answer, "path": self._datastore.image_place(answer["id"])}

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Segment a case, or one of its volumes by that volume's id; nothing else is ever opened.

        Raises:
            Refusal: If the model or the image is none of ours.
        """
        task = offered("model", request.get("model"), self._infers)
        image = request.get("image")
        if not isinstance(image, str):
            raise Refusal("image must be the id of a case or of one of its volumes.")
        tag = str(request.get("label_tag") or "original")
        if request.get("save_label") is True and tag == "final":
            raise Refusal("a model's answer must not take the place of a reader's final label; use original.")
        case, modality = self._datastore.resolve(image)
        try:
            file, about = task({**request, "case": case, "modality": modality})
        except ValueError as err:
            raise Refusal(str(err)) from err
        label = file
        if request.get("save_label") is True:
            try:
                label = self._datastore.save_label(
                    case.id, file, tag, {"model": request["model"], "params": about}
                )
            except Exception:
                Path(file).unlink(missing_ok=True)
                raise
        return {"label": label, "tag": "original", "file": file, "params": about}

    def batch_infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> Any:
        """Segment many cases; without a GPU the framework's spreading over GPUs divides by their number."""
        return super().batch_infer({**request, "multi_gpu": torch.cuda.is_available()}, datastore)

    def scoring(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> Any:
        """Score; the framework answers an unknown method with a traceback."""
        offered("method", request.get("method"), self._scoring_methods)
        return super().scoring(request, datastore)

    def train(self, request: Mapping[str, Any]) -> Any:
        """Train; the framework answers an unknown model with a traceback."""
        offered("model", request.get("model"), self._trainers)
        return super().train(request)

    def infer_wsi(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Refused: there are no whole-slide images here."""
        raise Refusal("this app has no whole-slide images; ask /infer/ciml for a case.", status=404)

    def info(self) -> Any:
        """What clients connect with; also why a check failed, and how the exchange with a PACS stands."""
        check = {"check": self.site.check_trouble} if self.site.check_trouble else {}
        return super().info() | check | ({"pacs": self.exchange.about()} if self.exchange else {})

    def _trouble(self) -> str:
        """Why studies could not be checked or looked at again, or labels not be sent; else empty."""
        told = [self.site.check_trouble]
        if self.exchange and self.exchange.message:
            told.append(f"PACS: {self.exchange.message}")
        if self.listing:
            told.append(self.listing.message)
        return " ".join(filter(None, told))

    def on_save_label(self, image_id: str, label_id: str) -> None:
        """Take the case out of the reader's hands, and tell the PACS."""
        self._has_label(self._datastore.resolve(image_id)[0])
        if self.exchange:
            self.exchange.wake()

    def _has_label(self, case: Case) -> None:
        """A case with a final label is in nobody's hands any more."""
        if case.id in self._datastore.labelled():
            with suppress(Unavailable):  # the label is stored whatever becomes of the lease
                self.site.plan.release(case.id, annotator=None)
        if self.prefetcher:
            self.prefetcher.look()
        logger.info("label saved for %s", case.id)

    def bundle_path(self, model: str) -> str:
        """Nowhere: the framework would import from a folder that a client names."""
        return os.devnull

    def _plan_is_current(self) -> bool:
        current = self.site.plan.current()
        return current is not None and is_current(self.site, current)

    def _listed(self, changed: bool) -> None:
        """New studies are checked now; what was missed or could not be fetched is, some minutes later."""
        if changed or time.monotonic() - self._check_started > RECHECK_S:
            self._check_due = True
        if not self._check_due or self._checking.is_alive():
            return
        if self.site.recall_check() and not self.site.unfetched:
            self._check_settled()
        else:
            self._start_check()

    def _start_check(self) -> None:
        self._check_settled()
        self._checking = threading.Thread(target=self._check_then_score, name="pool-check", daemon=True)
        self._checking.start()

    def _check_settled(self) -> None:
        self._check_started = time.monotonic()
        self._check_due = False

    def _check_then_score(self) -> None:
        """Fail closed: what was never checked is not served once a check has failed."""
        try:
            if not self._is_checked():
                return
        except Exception as err:
            logger.exception("the pool check could not be started or its result not be read")
            self.site.check_failed(f"The pool check failed ({type(err).__name__}); {_TRIED_AGAIN}")
            return
        logger.info("pool\n%s%s", as_text(pool_table(self.site)), as_text(check_table(self.site)))
        if self._auto_update_scoring:
            self.async_scoring(None)

    def _is_checked(self) -> bool:
        """Check the pool if it has to be; in a process of its own, as it takes minutes and clients wait."""
        if self.site.recall_check() and not self.site.unfetched:
            return True
        logger.info("checking %d cases", len(self.site.pool.cases))
        ended = check_in_background(self.site)
        if status := ended.returncode:
            stopped = status in _STOPPED or self.site.plan.progress(CHECK).get("state") == "interrupted"
            logger.error("the pool check failed: %s", ended.stdout[-2000:])
            why = "was stopped" if stopped else f"failed with exit status {status}"
            self.site.check_failed(f"The pool check {why}; {_TRIED_AGAIN}", lasting=not stopped)
            return False
        if not self.site.recall_check():
            logger.warning("the studies changed while they were checked; they will be checked again")
            return False
        return True
