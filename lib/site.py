"""A studies folder under a site's settings: its pool, what may be served, where things are kept."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from lib.cases.case import Case, CaseError
from lib.cases.check import Verdict, check_pool
from lib.cases.dicomweb_studies import find_studies
from lib.cases.judge import UNFETCHED
from lib.cases.layouts import find_pool
from lib.cases.look import Look, tree_stamp
from lib.cases.measure import MEASURE_VERSION
from lib.cases.mirror import Mirror
from lib.cases.modalities import default_reference
from lib.cases.own_files import Damaged, Unavailable
from lib.cases.pool import Pool
from lib.cases.records import Records
from lib.cases.series_rules import rules_for
from lib.cases.volumes import Preparation, VolumeCache
from lib.ciml.decomposition import Decomposition, decomposition_for
from lib.kept_check import KeptCheck, case_stamps
from lib.mdal import METHOD_VERSION
from lib.plan.store import PlanStore
from lib.settings import AppSettings

if TYPE_CHECKING:
    from lib.ciml.models import Models


logger = logging.getLogger(__name__)
_HELD = "MDAL_CIML_MODALITIES"  # of a server, in the environment of its child processes


def release_modalities() -> None:
    """Undo `hold_modalities`: a server starts anew."""
    os.environ.pop(_HELD, None)


class Quarantined(CaseError):
    """A case that the pool check holds back."""


class Site:
    """What the server and the command line both need of one studies folder, or of one PACS.

    Attributes:
        address: The studies as they were given: a folder, or the address of a DICOMweb server.
        studies: Folder of the labels and their register: the studies themselves, or `work` of a PACS.
        work: Folder of the plan, the models and the cache.
        verdicts: Result of the last pool check by case; empty where there was none.
        quarantined: Ids of the cases that the check holds back and nobody released.
        unchecked: Ids of the cases that are held back because the last check failed and none saw their files.
        served: The other cases.
    """

    def __init__(self, studies: Path | str, settings: AppSettings) -> None:
        """Find the cases.

        Raises:
            CaseError: If the folder, the layout or the reference does not fit, or the PACS does not answer.
        """
        self.settings = settings
        if is_address(str(studies)):
            self.address = check_address(str(studies).strip().rstrip("/"))
            self.work = Path(settings.work_dir or _work_of(self.address)).resolve()
            self.studies = self.work
        else:
            self.studies = Path(studies).resolve()
            self.address = str(self.studies)
            self.work = Path(settings.work_dir).resolve() if settings.work_dir else self.studies / ".mdal"
        self._tree = self._seen_tree = self._tree_now()  # as it was taken, and as it was last seen
        self.pool = self._find()
        self._taken = Look.of(self.pool)
        self.verdicts: dict[str, Verdict] = {}
        self.quarantined: set[str] = set()
        self.unchecked: set[str] = set()
        self.served: tuple[Case, ...] = self.pool.cases
        self._check = KeptCheck()
        if self.pool.cases:
            self.recall_check()

    def hold_modalities(self) -> None:
        """Have every process that this one starts leave out what comes with a new modality, as `refresh`."""
        os.environ[_HELD] = ",".join(self.preparation.modalities)

    def _find(self, modalities: Sequence[str] = ()) -> Pool:
        pool = self._found()
        held = modalities or [name for name in os.environ.get(_HELD, "").split(",") if name]
        return pool.limited_to(held) if held else pool

    def _found(self) -> Pool:
        settings = self.settings
        rules = rules_for(settings.series_rules)
        if is_address(self.address):
            mirror = Mirror(
                self.address, self.work / "dicom", int(settings.dicom_gb * 1e9), settings.max_voxels
            )
            return find_studies(mirror, rules)
        return find_pool(
            self.studies,
            layout=settings.layout,
            modalities=settings.modalities,
            follow_links=settings.follow_links,
            rules=rules,
        )

    def refresh(self, *, settled: bool = False) -> bool:
        """Look for studies again; whether any is new, changed or gone.

        A new case is served at once, as the check follows, and a new label beside the images counts. A
        modality that no case had when this process started waits for the next start: the arrays and the
        model have no place for it.

        Args:
            settled: Take only what looks as it did at the last call: while studies are copied to a folder
                they change from one look to the next.

        Raises:
            CaseError: As the constructor, or if no case is left; the cases then stay as they were.
        """
        tree, seen = self._tree_now(), self._seen_tree
        self._seen_tree = tree
        if tree and (tree == self._tree or (settled and tree != seen)):
            return False
        found = self._find(self.preparation.modalities)
        if not found.cases:
            raise CaseError(
                f"studies must hold at least one case; none is left under {self.address}. "
                f"The {len(self.pool.cases)} of before stay listed. See whether its disk is there."
            )
        look, taken = Look.of(found), self._taken
        self._tree, self._taken = tree, look
        if look == taken:
            return False
        self.pool = found
        self._apply(self._check)
        return look.stamps != taken.stamps

    def _tree_now(self) -> str:
        """What the folder looks like from outside; empty for a PACS."""
        if is_address(self.address):
            return ""
        return tree_stamp(self.studies, follow_links=self.settings.follow_links)

    def validate(self) -> None:
        """Refuse now what would fail later: an empty pool, a bad reference, label table, device or database.

        Raises:
            CaseError: With what must hold.
        """
        from lib.compute import device_of  # torch takes seconds to import, and listing a pool does without

        device_of(self.settings.device)
        try:
            for made in ("preparation", "decomposition", "plan"):
                getattr(self, made)
            self.models.current(self.settings.model_version)
        except Damaged:
            raise
        except (Unavailable, SQLAlchemyError) as err:
            cause = err.__cause__ or err
            raise CaseError(
                f"database_url must be a SQLite or PostgreSQL database that can be opened; {cause}. "
                "Set --conf database_url."
            ) from err
        except CaseError:
            raise
        except ValueError as err:
            raise CaseError(str(err)) from err

    @cached_property
    def preparation(self) -> Preparation:
        """How the pool's cases become arrays."""
        modalities = self.pool.modalities
        if not modalities:
            raise CaseError(
                f"studies must hold at least one case; none was found under {self.address}. "
                "Run `python main.py check` to see what was skipped and why."
            )
        settings = self.settings
        return Preparation(
            modalities,
            settings.reference or default_reference(modalities),
            settings.ct_window,
            settings.pet_ceiling,
            settings.max_voxels,
        )

    @cached_property
    def records(self) -> Records:
        """What is known of files that were read before."""
        return Records(self.work / "records.sqlite")

    @cached_property
    def cache(self) -> VolumeCache:
        """Prepared cases."""
        return VolumeCache(
            self.work / "cache", self.preparation, self.records, max_bytes=int(self.settings.cache_gb * 1e9)
        )

    @cached_property
    def plan(self) -> PlanStore:
        """The plan's database."""
        return (
            PlanStore(self.settings.database_url)
            if self.settings.database_url
            else PlanStore.beside(self.work)
        )

    @cached_property
    def models(self) -> Models:
        """Versions of the published network."""
        from lib.ciml.models import Models  # with torch, takes seconds to import

        settings = self.settings
        return Models(self.work / "model", keep=settings.models_kept, pinned=settings.model_version)

    @cached_property
    def decomposition(self) -> Decomposition:
        """Labels, regions and subtasks: a preset's, or the site's own table."""
        return decomposition_for(
            self.pool.modalities,
            preset=self.settings.decomposition,
            labels=self.settings.labels or self.pool.labels or None,
        )

    def check(self, on_progress: Callable[[int, int], None] | None = None) -> None:
        """Run the pool check and keep its result; what was measured before is not measured again."""
        if not self.pool.cases:
            return
        verdicts = check_pool(
            self.pool.cases,
            self.preparation,
            self.records,
            workers=self.settings.workers or os.cpu_count() or 1,
            on_progress=on_progress,
        )
        look = Look.of(self.pool)
        kept = KeptCheck(self._checked_state(look), verdicts, case_stamps(look))
        kept.write(self.work)
        self._apply(kept)

    def recall_check(self) -> bool:
        """Take the result of the last check; whether it is of the pool as it is now.

        Where files changed since, a case keeps the verdict that it had: one that was held back stays back
        until the next check.
        """
        kept = KeptCheck.read(self.work)
        if kept.failed and not kept.of:  # what this process knows is better than what cannot be read
            kept = replace(self._check, failed=kept.failed)
        self._apply(kept)
        return kept.of == self._checked_state(Look.of(self.pool)) and not kept.failed

    def check_failed(self, why: str, *, lasting: bool = True) -> None:
        """Serve nothing that was never checked until a check has succeeded.

        Args:
            why: What happened, in a sentence.
            lasting: In the processes that are started after this one too.
        """
        kept = replace(self._check, failed=why)
        self._apply(kept)
        if not lasting:
            return
        try:
            kept.write(self.work)
        except OSError as err:  # a full disk may be why it failed
            logger.warning("that the pool check failed could not be kept: %s", err)

    @property
    def check_trouble(self) -> str:
        """Why the pool could not be checked, and what that means; empty where it could."""
        if not self._check.failed:
            return ""
        held = (
            f" Not checked and held back until then: {len(self.unchecked):,} cases." if self.unchecked else ""
        )
        return f"{self._check.failed}{held}"

    @property
    def unfetched(self) -> bool:
        """Whether the last check lacked a series that the PACS did not give; it may give it now."""
        return any(
            finding.code == UNFETCHED for verdict in self.verdicts.values() for finding in verdict.findings
        )

    def _apply(self, kept: KeptCheck) -> None:
        self._check = kept
        self.verdicts = {id: kept.verdicts[id] for id in self.pool.by_id if id in kept.verdicts}
        self.quarantined = {
            id
            for id, verdict in self.verdicts.items()
            if verdict.status == "quarantined" and id not in self.settings.released
        }
        unchecked = self.pool.by_id.keys() - kept.of_cases(self._taken) if kept.failed else set()
        self.unchecked = unchecked - self.quarantined
        held = self.quarantined | self.unchecked
        self.served = tuple(case for case in self.pool.cases if case.id not in held)

    def resolve(self, name: str) -> tuple[Case, str | None]:
        """The served case that a name means, and the modality where the name is a sibling's.

        Raises:
            CaseError: If no case has this name.
            Quarantined: If the case is held back; the message says why.
        """
        case, modality = self.pool.resolve(name)
        if case.id in self.quarantined:
            why = " ".join(self.findings(case.id))
            raise Quarantined(
                f"case {case.id} is quarantined. {why} Once it was looked at: --conf released {case.id}"
            )
        if case.id in self.unchecked:
            raise Quarantined(f"case {case.id} must be checked before it is served. {self.check_trouble}")
        return case, modality

    def findings(self, case_id: str) -> list[str]:
        """What the pool check says of a case, in sentences."""
        verdict = self.verdicts.get(case_id)
        return [finding.sentence for finding in verdict.findings] if verdict else []

    def fingerprint(self) -> str:
        """Hash of files' names, sizes and times and of the settings: cheap, changes whenever a plan may."""
        return _digest([Look.of(self.pool).stamps, self.scoring_settings])

    def _checked_state(self, look: Look) -> str:
        return _digest([MEASURE_VERSION, look.stamps, asdict(self.preparation)])

    def content(self) -> str:
        """Hash of what the served cases hold and of the settings that change their scores."""
        return _digest([sorted(self.records.content_hashes(self.served).items()), self.scoring_settings])

    @property
    def scoring_settings(self) -> dict[str, object]:
        """The settings that a plan depends on."""
        keys = (
            "seed",
            "budget",
            "strategies",
            "folds",
            "repeats",
            "scoring_steps",
            "retrain_share",
            "encoder",
            "reference",
            "ct_window",
            "pet_ceiling",
            "released",
        )
        return {**self.settings.model_dump(mode="json", include=set(keys)), "method": METHOD_VERSION}


def is_address(studies: str) -> bool:
    """Whether studies are in a PACS: the address of a DICOMweb server."""
    return studies.startswith(("http://", "https://"))


def check_address(studies: str) -> str:
    """The address of a PACS, which is shown in answers, tables and logs: it must hold no secret.

    Raises:
        CaseError: If a user, a password, a query or a fragment stands in it; the message repeats none of it.
    """
    parts = urlsplit(studies)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise CaseError(
            f"the address of a PACS must be scheme, host and path alone; {parts.scheme}://{parts.hostname} "
            "was given with a user, a password or a query. Set MONAI_LABEL_DICOMWEB_USERNAME and "
            "MONAI_LABEL_DICOMWEB_PASSWORD in the environment."
        )
    return studies


def _work_of(address: str) -> Path:
    """A folder of this user for one PACS, named by its host."""
    parts = urlsplit(address)
    name = re.sub(r"[^\w.-]", "_", parts.hostname or "pacs")
    return Path.home() / ".mdal" / f"{name}-{_digest(address)[:8]}"


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()
