import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lib.cli.main import app
from lib.mdal.selection.strategies import STRATEGIES
from lib.pipeline.checking import CHECK_JOB
from lib.pipeline.planning import SCORING_JOB
from lib.plan.store import PlanStore
from tests.conftest import SAMPLES
from tests.support.command_line import ROOT, exit_code, press_ctrl_c, said

QUICK = ("scoring=quick",)
SEVEN = ("STS_002", "STS_008", "STS_018", "STS_024", "STS_025", "STS_041", "STS_042")
ELSEWHERE = "STS_019"  # the check finds that its volumes do not lie on each other


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven patients that can be scored and one that is held back; planned by the first test that asks."""
    folder = tmp_path_factory.mktemp("pool") / "studies"
    for id in (*SEVEN, ELSEWHERE):
        shutil.copytree(SAMPLES / id, folder / id)
    return folder


def arguments(studies: Path, *options: object, work: Path | None = None) -> list[str]:
    conf = [*QUICK, *([f"work_dir={work}"] if work else [])]
    return ["select", str(studies), *(word for pair in conf for word in ("--conf", pair)), *map(str, options)]


def select(studies: Path, *options: object, work: Path | None = None) -> int:
    """Exit code of the command, run in this process."""
    return exit_code(*arguments(studies, *options, work=work))


def table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.read_text())))


@pytest.mark.slow
def test_every_case_of_the_pool_is_in_the_table_once(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert select(studies, "--budget", "2", "--output", tmp_path / "plan.csv", "--no-figure") == 0
    rows = table(tmp_path / "plan.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5", "6", "7", ""]
    assert sorted(row["case"] for row in rows[:-1]) == list(SEVEN)
    assert [row["chosen"] for row in rows] == ["yes"] * 2 + ["no"] * 6
    assert rows[-1]["case"] == ELSEWHERE
    assert rows[-1]["warnings"].startswith("Quarantined. CT and MR_T1 do not lie on each other")
    for row in rows[:-1]:
        by_pair = {pair: float(row[f"difference {pair}"]) for pair in ("MR_T1/CT", "MR_T1/PET", "CT/PET")}
        assert row["most_different_pair"] == max(by_pair, key=by_pair.__getitem__)
    assert not (tmp_path / "plan.png").exists()
    told = said(capsys.readouterr().out)
    assert "2 of 7 cases by representative, budget 2" in told
    assert "as reconstructed from its abstract" in told
    assert "Gates" in told
    assert "1 case is in quarantine" in told


@pytest.mark.slow
def test_the_document_says_how_the_plan_came_to_be_and_agrees_with_the_table(
    studies: Path, tmp_path: Path
) -> None:
    for name in ("plan.csv", "plan.json"):
        assert select(studies, "--budget", "2", "--output", tmp_path / name, "--no-figure") == 0
    document = json.loads((tmp_path / "plan.json").read_text())
    rows = table(tmp_path / "plan.csv")
    assert [case["case"] for case in document["cases"]] == [row["case"] for row in rows[:-1]]
    for case, row in zip(document["cases"], rows[:-1], strict=True):
        assert f"{case['difference']:.4f}" == row["difference"]
        assert f"{case['pairs']['CT/PET']['difference_nats']:.4f}" == row["difference_nats CT/PET"]
    assert document["budget"] == {"rule": "2", "cases": 2, "of": 7}
    assert document["quarantined"][0]["case"] == ELSEWHERE
    assert document["settings"]["scoring"] == "quick"
    assert {"torch", "monai"} <= document["software"].keys()
    assert {gate["name"] for gate in document["gates"]} > {"retrieval", "seed_agreement"}
    assert len(document["coverage"]["representative"]) == len(document["coverage"]["at"])


@pytest.mark.slow
def test_two_work_folders_and_one_seed_give_the_same_bytes(studies: Path, tmp_path: Path) -> None:
    for run, work in (("one", None), ("two", tmp_path / "work")):
        for output in ("plan.csv", "plan.json"):
            assert select(studies, "--output", tmp_path / f"{run}-{output}", work=work) == 0
    for output in ("plan.csv", "plan.json", "plan.png"):
        assert (tmp_path / f"one-{output}").read_bytes() == (tmp_path / f"two-{output}").read_bytes()


@pytest.mark.slow
def test_a_second_run_scores_nothing_again(studies: Path, tmp_path: Path) -> None:
    assert select(studies, "--output", tmp_path / "one.csv", "--no-figure") == 0
    assert select(studies, "--output", tmp_path / "two.csv", "--no-figure") == 0
    assert PlanStore.beside(studies / ".mdal").progress(SCORING_JOB)["message"] == "nothing changed"
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


@pytest.mark.slow
def test_the_strategy_that_is_asked_for_orders_the_plan(studies: Path, tmp_path: Path) -> None:
    assert select(studies, "--strategy", "mdal", "--output", tmp_path / "plan.csv", "--no-figure") == 0
    rows = table(tmp_path / "plan.csv")[:-1]
    suspect = ["differs far more than the pool" in row["warnings"] for row in rows]
    assert suspect == sorted(suspect)  # likely damaged cases come last
    differences = [float(row["difference"]) for row, last in zip(rows, suspect, strict=True) if not last]
    assert len(differences) >= 4
    assert differences == sorted(differences, reverse=True)


@pytest.mark.slow
def test_the_rule_plateau_chooses_as_many_as_the_strategys_plateau(studies: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    assert select(studies, "--budget", "plateau", "--output", file, "--no-figure") == 0
    document = json.loads(file.read_text())
    assert document["budget"]["cases"] == document["plateau"]["representative"]
    assert sum(case["chosen"] for case in document["cases"]) == document["plateau"]["representative"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--strategy", "best"), "strategy must be one of mdal, diversemd, representative"),
        (("--budget", "130%"), "budget must be a number of cases (20)"),
        (("--budget", "0"), "budget must be a number of cases (20)"),
        (("--seed", "-1"), "seed must be"),
        (("--output", "plan.xlsx"), "--output must end in .csv or .json; got 'plan.xlsx'"),
        (("--figure", "plan.jpg"), "--figure must end in .png; got 'plan.jpg'"),
        (("--output", "[red].txt"), "got '[red].txt'"),
        (("--conf", "speed=1"), "--conf speed is not a key of this app"),
        (("--conf", "device=tpu9"), "device must be auto, cpu, cuda or cuda:N"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence_before_anything_is_read(
    options: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    studies = shutil.copytree(SAMPLES / SEVEN[0], tmp_path / "studies" / SEVEN[0]).parent
    assert select(studies, *options) == 2
    told = said(capsys.readouterr().out)
    assert sentence in told
    assert "Traceback" not in told
    assert not list(tmp_path.glob("plan*"))
    assert PlanStore.beside(studies / ".mdal").progress(CHECK_JOB) == {}


def test_a_folder_that_is_a_file_is_refused_before_the_scoring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").write_text("")
    assert select(tmp_path, "--output", tmp_path / "results" / "plan.csv") == 2
    assert "--output must be a file that can be written" in said(capsys.readouterr().out)


def test_a_pool_too_small_to_score_gets_a_plan_that_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studies = tmp_path / "studies"
    names = ("Zoë (2nd scan) +C", "p@t 7")
    for id, name in zip(("STS_025", "STS_041"), names, strict=True):
        shutil.copytree(SAMPLES / id, studies / name)
    assert select(studies, "--budget", "1", "--output", tmp_path / "out" / "plan.csv") == 0
    rows = table(tmp_path / "out" / "plan.csv")
    assert {row["case"] for row in rows} == set(names)
    assert [row["chosen"] for row in rows] == ["yes", "no"]
    assert {row["difference"] for row in rows} == {""}
    assert "at least 6 patients" in said(capsys.readouterr().out)
    assert (tmp_path / "out" / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["plan.csv", "plan.png"]


def test_a_pool_whose_every_case_is_in_quarantine_is_refused_with_the_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    studies = shutil.copytree(SAMPLES / ELSEWHERE, tmp_path / "studies" / ELSEWHERE).parent
    assert select(studies, "--output", tmp_path / "plan.csv") == 2
    told = said(capsys.readouterr().out)
    assert "all are in quarantine" in told
    assert "do not lie" in told
    assert not (tmp_path / "plan.csv").exists()


def test_help_names_every_strategy() -> None:
    told = said(CliRunner().invoke(app, ["select", "--help"]).output)
    assert "Example: python main.py select" in told
    for name, strategy in STRATEGIES.items():
        assert f"{name}: {strategy.title}" in told


def command(*words: str) -> dict[str, object]:
    return {
        "args": [sys.executable, *words],
        "cwd": ROOT,
        "env": {**os.environ, "OMP_NUM_THREADS": "1"},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
    }


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "main.py")


@pytest.mark.slow
@pytest.mark.e2e
def test_two_ranks_of_torchrun_write_what_one_process_writes(studies: Path, tmp_path: Path) -> None:
    options = ("--output", tmp_path / "ranks.csv")
    words = arguments(studies, *options, work=tmp_path / "ranks")
    ran = subprocess.run(**command(*TORCHRUN, *words), check=False, timeout=300)
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.count("written: ") == 2  # a table and a figure, told by one rank
    assert select(studies, "--output", tmp_path / "one.csv") == 0
    for suffix in ("csv", "png"):
        ranks, one = (tmp_path / f"{name}.{suffix}" for name in ("ranks", "one"))
        assert ranks.read_bytes() == one.read_bytes()


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--strategy", "best"), "strategy must be one of"),
        (("--conf", "device=tpu9"), "device must be auto, cpu, cuda or cuda:N"),
        (("--conf", "scoring"), "--conf must be KEY=VALUE"),
    ],
)
def test_what_the_first_rank_refuses_ends_all_ranks_with_its_sentence(
    options: tuple[str, ...], sentence: str, studies: Path, tmp_path: Path
) -> None:
    words = arguments(studies, *options, "--output", tmp_path / "plan.csv", work=tmp_path / "work")
    ran = subprocess.run(**command(*TORCHRUN, *words), check=False, timeout=300)
    assert ran.returncode != 0
    assert said(ran.stdout).count(sentence) == 1
    assert not (tmp_path / "plan.csv").exists()


@pytest.mark.slow
@pytest.mark.e2e
def test_a_failure_of_the_first_rank_ends_all_ranks(studies: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "scoring").write_text("a file where the models should be")
    words = arguments(studies, "--output", tmp_path / "plan.csv", work=tmp_path / "work")
    ran = subprocess.run(**command(*TORCHRUN, *words), check=False, timeout=300)
    assert ran.returncode != 0
    assert "Is the folder writable?" in said(ran.stdout)
    assert not (tmp_path / "plan.csv").exists()


@pytest.mark.slow
@pytest.mark.e2e
def test_ctrl_c_ends_with_a_sentence_and_leaves_nothing_behind(studies: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    words = arguments(studies, "--conf", "scoring=full", "--output", tmp_path / "plan.csv", work=work)
    plan = PlanStore.beside(work)
    told = press_ctrl_c(
        [sys.executable, "main.py", *words],
        once=lambda: plan.progress(SCORING_JOB).get("done", 0.0) >= 0.192,  # when every process trains
        environment={"OMP_NUM_THREADS": "1"},
    )
    assert "the next run goes on where this one stopped" in told
    assert not (work / "views.npy").exists()
    assert plan.progress(SCORING_JOB)["state"] == "interrupted"
    assert select(studies, "--output", tmp_path / "plan.csv", "--no-figure", work=work) == 0
