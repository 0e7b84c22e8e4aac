"""The MONAI Label app: wiring and nothing else."""

from __future__ import annotations

import gc
import logging
import os
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
from lib.cases.case import Case
from lib.cases.discovery.found_pool import hold_modalities, release_modalities
from lib.labels.exchange import SegmentationExchange
from lib.labels.origin import Origin, Saved
from lib.labels.store import FINAL
from lib.mdal.selection.strategies import STRATEGIES
from lib.pipeline.planning import SCORING_JOB, is_current
from lib.pipeline.settings import read_settings
from lib.pipeline.workspace import Workspace
from lib.runtime.own_files import Unavailable
from lib.runtime.periodic import PeriodicTask
from lib.runtime.processes import server_environment
from lib.runtime.temporary import keep_private, remove_left_folders
from lib.server.boundary.exposure import listening_host, warning_of_open_door
from lib.server.boundary.middleware import set_boundary
from lib.server.boundary.peers import HeldCases, annotator_of, peer
from lib.server.datastore import CaseDatastore, reader_of
from lib.server.endpoints.context import Served
from lib.server.endpoints.page import offer_page
from lib.server.errors import ClientError, offered
from lib.server.prefetch import Prefetcher
from lib.server.study_watcher import LISTING_SHARE, StudyWatcher
from lib.server.submission import origin_of, record_shown, record_superseded
from lib.server.subprocesses import ending_in_a_sentence, stop_jobs_at_the_end
from lib.server.tasks.infer import CimlInfer
from lib.server.tasks.scoring import ModalityDifferenceScoring
from lib.server.tasks.strategies import PlannedStrategy
from lib.server.tasks.train import CimlTrain
from lib.server.upstream.application import running_application
from lib.server.upstream.login import patch_login
from lib.server.upstream.ohif import patch_panel
from lib.server.upstream.quiet_logs import quiet_logs
from lib.server.upstream.secrets import take_secrets
from lib.server.upstream.threads import keep_loop_free

SWEEP_S = 10.0  # from one look for what a killed job left to the next
logger = logging.getLogger(__name__)
quiet_logs()


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
            os.environ.update(server_environment())
            self._stopping = stop_jobs_at_the_end()
            studies, conf = take_secrets(self, app_dir, studies, conf)
        try:
            settings = read_settings(conf)
            if serves and (
                warning := warning_of_open_door(listening_host(), require_login=settings.require_login)
            ):
                logger.warning(warning)
            self.workspace = Workspace(studies, settings)
            self.workspace.validate()
            self.workspace.hold_ids()
            if serves:
                self.workspace.labels.register.check()
        except ValueError as err:
            raise MONAILabelException(MONAILabelError.APP_INIT_ERROR, str(err)) from err
        if serves:
            hold_modalities(self.workspace.preparation.modalities)
            keep_private(self.workspace.folders.work, Path(app_dir) / "logs")
        self._hands = HeldCases()
        self.prefetcher: Prefetcher | None = None  # only a server segments ahead
        self.exchange: SegmentationExchange | None = None  # and exchanges labels with a PACS
        self.watcher = StudyWatcher(self.workspace, on_checked=self._checked)
        super().__init__(
            app_dir,
            studies,
            dict(conf),
            name="MDAL-CIML",
            version=VERSION,
            description="Which multimodal cases to label first, and a segmentation that learns from them",
        )
        self.segmenter = self._infers["ciml"].segmenter
        offer_page(Served(self.workspace, self._datastore, self.segmenter, self._trouble))
        patch_login()
        patch_panel()
        keep_loop_free()
        set_boundary(settings)

    def init_datastore(self) -> Datastore:
        """Cases as images."""
        try:
            return CaseDatastore(self.workspace)
        except ValueError as err:
            raise MONAILabelException(MONAILabelError.APP_INIT_ERROR, str(err)) from err

    def init_infers(self) -> dict[str, InferTask]:
        """One model."""
        return {"ciml": CimlInfer(self.workspace)}

    def init_trainers(self) -> dict[str, TrainTask]:
        """One trainer: clients read the statistics of the first only."""
        return {"ciml": CimlTrain(self.workspace)}

    def init_strategies(self) -> dict[str, Strategy]:
        """Every order of the plan, the default first: 3D Slicer asks for the first unless a reader chooses.

        `random`, the only name that OHIF asks for, is the default too.
        """
        default = self.workspace.settings.strategy
        names = sorted(STRATEGIES, key=lambda name: name != default)
        strategies = {name: PlannedStrategy(self.workspace, name) for name in names}
        return {**strategies, "random": strategies[default]}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """One method."""
        return {"mdal": ModalityDifferenceScoring(self.workspace)}

    def on_init_complete(self) -> None:
        """Check the pool, then score it if it changed; a small pool on disk is not served before."""
        super().on_init_complete()
        gc.freeze()  # what is here stays: looking through it for garbage holds every reader up for 0.4 s
        PeriodicTask(
            lambda: remove_left_folders(self.workspace.folders.work),
            name="sweep",
            every_s=SWEEP_S,
            share=1.0,
            failing="temporary files of jobs that ended are still there",
        ).start()
        PeriodicTask(
            self._take_in_labels,
            name="earlier-labels",
            every_s=self.workspace.settings.refresh_s,
            share=LISTING_SHARE,
            failing="labels that were put there by hand are not taken in",
        ).start(at_once=False)
        self.watcher.start()
        self.prefetcher = Prefetcher(self.workspace, self._datastore.labelled)
        self.prefetcher.start()
        if self.workspace.folders.in_pacs:
            self.exchange = self.workspace.exchange(on_taken=self._has_label, on_listed=self.watcher.listed)
            self.exchange.start()

    def async_scoring(self, method: str | None, params: Any = None) -> Any:
        """Enqueue scoring; the automatic one only once the pool is checked, and only if the pool changed.

        MONAI Label asks for it at start, after training and at each Next Sample; a child process a time would
        be started to find that nothing changed. Beside a check, which runs at low priority and which the
        start waits for, a scoring would take both processors and check the same files.
        """
        if method is None and not self._scoring_is_due():
            return {}
        queued = super().async_scoring(method, params)
        plan = self.workspace.plan
        if plan.progress(SCORING_JOB).get("state") != "running":  # its process takes seconds to start
            plan.report(SCORING_JOB, state="running", done=0.0, message="about to start")
        return queued

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The next case by the strategy that the request names."""
        strategy = offered("strategy", str(request.get("strategy") or "random"), self._strategies)
        name = annotator_of(request.get("client_id"))
        shared = self._hands.take(peer.get(), name, lambda: self.workspace.plan.assignments(name).annotators)
        answer: dict[str, Any] = strategy(request, self._datastore)
        if answer and answer["mdal"]["state"] in ("interrupted", "done") and self._auto_update_scoring:
            self.async_scoring(None)  # whoever scored was killed, or made a plan without this strategy
        if not answer:
            return {}
        if self.prefetcher:
            self.prefetcher.look(offered=answer["id"])
        answer["mdal"]["warnings"] += shared
        # a client that finds no file there asks for the image
        return {**answer, "path": self._datastore.image_place(answer["id"])}

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Segment a case, or one of its volumes by that volume's id; nothing else is ever opened.

        Raises:
            ClientError: If the model or the image is none of ours.
        """
        task = offered("model", request.get("model"), self._infers)
        image = request.get("image")
        if not isinstance(image, str):
            raise ClientError("image must be the id of a case or of one of its volumes.")
        tag = str(request.get("label_tag") or "original")
        if request.get("save_label") is True and tag == "final":
            raise ClientError(
                "a model's answer must not take the place of a reader's final label; use original."
            )
        case, modality = self._datastore.resolve(image)
        try:
            file, about = task({**request, "case": case, "modality": modality})
        except ValueError as err:
            raise ClientError(str(err)) from err
        label = file
        record_shown(self.workspace, case, about["ciml"], reader_of(request))
        if request.get("save_label") is True:
            origin = Origin("model", str(request["model"]), about={"ciml": about["ciml"]})
            try:
                notes = {"model": request["model"], "params": about}
                label = self._datastore.submit(case.id, Path(file), tag, notes, origin).version.case_id
            except Exception:
                Path(file).unlink(missing_ok=True)
                raise
        return {"label": label, "tag": "original", "file": file, "params": about}

    def batch_infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> Any:
        """Segment many cases; without a GPU the framework's spreading over GPUs divides by their number."""
        with ending_in_a_sentence():
            return super().batch_infer({**request, "multi_gpu": torch.cuda.is_available()}, datastore)

    def scoring(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> Any:
        """Score; the framework answers an unknown method with a traceback."""
        offered("method", request.get("method"), self._scoring_methods)
        with ending_in_a_sentence():
            return super().scoring(request, datastore)

    def train(self, request: Mapping[str, Any]) -> Any:
        """Train; the framework answers an unknown model with a traceback."""
        offered("model", request.get("model"), self._trainers)
        with ending_in_a_sentence():
            return super().train(request)

    def infer_wsi(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Refused: there are no whole-slide images here."""
        raise ClientError("this app has no whole-slide images; ask /infer/ciml for a case.", status=404)

    def info(self) -> Any:
        """What clients connect with; also why a check failed, and how the exchange with a PACS stands."""
        check = {"check": self.workspace.verdicts.trouble} if self.workspace.verdicts.trouble else {}
        return super().info() | check | ({"pacs": self.exchange.about()} if self.exchange else {})

    def _trouble(self) -> str:
        """Why studies could not be checked or looked at again, or labels not be sent; else empty."""
        told = [self.workspace.verdicts.trouble, self.watcher.message]
        if self.exchange and self.exchange.message:
            told.append(f"PACS: {self.exchange.message}")
        return " ".join(filter(None, told))

    def submit(self, image: str, file: Path, tag: str, notes: Any, reader: str) -> Saved:
        """Store a reader's label as a new version, with what the server knows of how it came about.

        Raises:
            ClientError: If the image, the tag or the label is not valid.
            OSError: If the label cannot be written.
        """
        case = self._datastore.resolve(image)[0]
        origin = origin_of(self.workspace, self.segmenter, case, reader=reader, client=peer.get())
        saved: Saved = self._datastore.submit(image, file, tag, notes, origin)
        record_superseded(self.workspace, saved)
        return saved

    def on_save_label(self, image_id: str, label_id: str) -> None:
        """Take the case out of the reader's hands, and tell the PACS."""
        self._has_label(self._datastore.resolve(image_id)[0])
        if self.exchange:
            self.exchange.wake()

    def _has_label(self, case: Case) -> None:
        """A case with a final label is in nobody's hands any more."""
        if version := self.workspace.labels.log.version(case.id, FINAL):
            with suppress(Unavailable):  # the label is stored whatever becomes of the lease
                self.workspace.plan.release(
                    case.id, annotator=version.reader or None, details={"version": version.number}
                )
        if self.prefetcher:
            self.prefetcher.look()
        logger.info("label saved for %s", case.id)

    def _take_in_labels(self) -> None:
        self.workspace.label_book.earlier.look()

    def _checked(self) -> None:
        if self._auto_update_scoring:
            self.async_scoring(None)

    def bundle_path(self, model: str) -> str:
        """Nowhere: the framework would import from a folder that a client names."""
        return os.devnull

    def _scoring_is_due(self) -> bool:
        queued = any(task["status"] in ("SUBMITTED", "RUNNING") for task in tasks("scoring"))
        return not queued and self.workspace.recall_check() and not self._plan_is_current()

    def _plan_is_current(self) -> bool:
        current = self.workspace.plan.current()
        return current is not None and is_current(self.workspace, current)
