"""How much time and memory does a label file take, from the request on, compared with MONAI Label's own task?

    python -m benchmarks.server.inference_speed --runs 3 --threads 2

A case has T1, T1ce, T2 and FLAIR on 240 x 240 x 155 voxels of 1 mm, as int16 .nii.gz files. The values are
made up inside an ellipsoid of 140 x 175 x 140 mm (1.8 million voxels) and zero outside, as after skull
stripping.

Our side is the infer task of this app with CIML's `base` network for `glioma_mr`. The rival is a
`BasicInferTask` of the installed MONAI Label with MONAI's SegResNet (16 initial filters, blocks 1-2-2-4 down
and 1-1-1 up) in windows of 240 x 240 x 160 that overlap by half, and the usual transforms for these images.
`Restored` is left out, as nothing is resampled and there is nothing to undo. Both networks have untrained
weights, as cost is measured and not quality.

Each run of each side is a process of its own, so that its peak memory is its own; the sides alternate. A run
starts with an empty cache and asks for cases that it has not seen. `cold` is the first case, including
everything that is loaded for it except Python's start and imports. `warm` is the second case, with other
files. Our side is then asked for the second case again, from the cache (`cached`), and for a third case that
was segmented ahead (`prefetched`). Core-seconds are those of all threads; they are comparable on a machine
that has other work to do.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import nibabel as nib
import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from benchmarks.common.folders import RESULTS

SHAPE = (155, 240, 240)
RADII = (70.0, 87.5, 70.0)  # mm along D, H, W
MODALITIES = ("T1", "T1ce", "T2", "FLAIR")
CASES = ("a", "b", "c")
WINDOW = (240, 240, 160)  # W, H, D
PREFETCHED_S = 0.2

Told = dict[str, Any]


def make_case(folder: Path, rng: np.random.Generator) -> None:
    """Write four files with smooth structure and noise inside a head, brighter in a lesion."""
    folder.mkdir(parents=True)
    head = _ellipsoid((77, 120, 120), RADII)
    lesion = _ellipsoid((90, 100, 140), (15.0, 20.0, 18.0))
    for modality in MODALITIES:
        structure = ndimage.zoom(rng.normal(size=(31, 30, 30)), (5, 8, 8), order=1)
        values = 600.0 + 120.0 * structure + rng.normal(0.0, 20.0, SHAPE) + 300.0 * lesion
        stored = np.where(head, np.clip(values, 1.0, None), 0.0).astype(np.int16)
        nib.save(nib.Nifti1Image(stored.T, np.eye(4)), folder / f"{modality}.nii.gz")


def _ellipsoid(centre: tuple[int, ...], radii: tuple[float, ...]) -> Any:
    axes: Any = np.ogrid[tuple(slice(0, size) for size in SHAPE)]
    parts = [((axis - at) / radius) ** 2 for axis, at, radius in zip(axes, centre, radii, strict=True)]
    return parts[0] + parts[1] + parts[2] <= 1.0


def ours(studies: Path, device: str) -> Told:
    """Measure this app's infer task."""
    import torch

    from lib.ciml.network.ciml_network import CimlNetwork
    from lib.ciml.network.settings import NetworkSettings
    from lib.pipeline.segmentation import Segmenter
    from lib.pipeline.settings import AppSettings
    from lib.pipeline.workspace import Workspace
    from lib.server.tasks.infer import CimlInfer

    with tempfile.TemporaryDirectory() as work:
        workspace = Workspace(studies, AppSettings(work_dir=work, device=device))
        torch.manual_seed(0)
        network = CimlNetwork(
            workspace.decomposition, workspace.preparation.modalities, NetworkSettings.of_size("base")
        )
        workspace.models.publish(network, {})
        task = CimlInfer(workspace)

        def ask(case: str) -> Told:
            return _timed(lambda: task({"case": workspace.pool.by_id[case], "modality": "FLAIR"}))

        told: Told = {"cold": ask("a"), "warm": ask("b"), "peak MB": _peak_mb(), "cached": ask("b")}
        Segmenter(workspace).segment(workspace.pool.by_id["c"], prefetching=True)
        told["prefetched"] = ask("c")
    if not told["prefetched"]["about"]["ciml"]["prefetched"]:
        raise RuntimeError("the third case must have been segmented ahead; it was not.")
    return {**told, "parameters": sum(weights.numel() for weights in network.parameters())}


def theirs(studies: Path, device: str) -> Told:
    """Measure MONAI Label's task."""
    from monai.networks.nets.segresnet import SegResNet
    from monailabel.interfaces.tasks.infer_v2 import InferType

    network = SegResNet(
        spatial_dims=3,
        init_filters=16,
        in_channels=len(MODALITIES),
        out_channels=3,
        blocks_down=(1, 2, 2, 4),
        blocks_up=(1, 1, 1),
    )
    labels = {"necrotic core": 1, "oedema": 2, "enhancing": 3}
    task = _segresnet_task()(None, network, InferType.SEGMENTATION, labels, 3, "SegResNet")

    def ask(case: str) -> Told:
        files = [str(studies / case / f"{modality}.nii.gz") for modality in MODALITIES]
        return _timed(lambda: task({"image": files, "device": device, "result_extension": ".nii.gz"}))

    told = {"cold": ask("a"), "warm": ask("b"), "peak MB": _peak_mb()}
    return {**told, "parameters": sum(weights.numel() for weights in network.parameters())}


def _segresnet_task() -> Any:
    """A task as users of MONAI Label write it, with the transforms of MONAI's brain tumour examples."""
    from monai.inferers.inferer import SlidingWindowInferer
    from monai.transforms.intensity.dictionary import NormalizeIntensityd
    from monai.transforms.io.dictionary import LoadImaged
    from monai.transforms.post.dictionary import Activationsd, AsDiscreted
    from monai.transforms.utility.dictionary import EnsureTyped
    from monailabel.tasks.infer.basic_infer import BasicInferTask

    class Regions(BasicInferTask):  # type: ignore[misc]  # monailabel has no types
        def pre_transforms(self, data: Any = None) -> list[Any]:
            return [
                LoadImaged(keys="image", ensure_channel_first=True),  # concatenates the files as channels
                EnsureTyped(keys="image", device=data.get("device") if data else None),
                NormalizeIntensityd(keys="image", nonzero=True, channel_wise=True),
            ]

        def inferer(self, data: Any = None) -> Any:
            return SlidingWindowInferer(WINDOW, sw_batch_size=1, overlap=0.5)

        def post_transforms(self, data: Any = None) -> list[Any]:
            return [
                Activationsd(keys="pred", sigmoid=True),
                AsDiscreted(keys="pred", threshold=0.5),
                _regions_to_labels,
            ]

    return Regions


def _regions_to_labels(data: dict[str, Any]) -> dict[str, Any]:
    """Join whole tumour, tumour core and enhancing tumour into one label map."""
    whole, core, enhancing = (region.as_tensor() for region in data["pred"])
    label = whole * 2
    label[core > 0] = 1
    label[enhancing > 0] = 3
    data["pred"] = label.cpu().numpy()
    return data


def _timed(ask: Callable[[], tuple[str, Told]]) -> Told:
    cores, start = time.process_time(), time.monotonic()
    file, about = ask()
    seconds, core_s = time.monotonic() - start, time.process_time() - cores
    label: Any = nib.load(file)
    if label.shape != SHAPE[::-1]:
        raise RuntimeError(f"the label must have {SHAPE[::-1]} voxels; got {label.shape}.")
    Path(file).unlink()
    return {"s": seconds, "core-s": core_s, "about": about}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # Linux counts in KiB


def run(side: Callable[[Path, str], Told], studies: Path, device: str, threads: int) -> Told:
    """Run one side in a process of its own.

    Raises:
        RuntimeError: If the process failed; the message has the end of its output.
    """
    answer = studies.parent / "told.json"
    code = f"from benchmarks.server import inference_speed as b; b.tell(b.{side.__name__}, {threads})"
    command = [sys.executable, "-c", code, str(studies), device, str(answer)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{side.__name__} failed:\n{ended.stdout[-2000:]}{ended.stderr[-3000:]}")
    told: Told = json.loads(answer.read_text())
    return told


def tell(side: Callable[[Path, str], Told], threads: int) -> None:
    """Measure a side in this process, and write the result to the file that was asked for."""
    import torch

    studies, device, answer = sys.argv[1:]
    torch.set_num_threads(threads)
    Path(answer).write_text(json.dumps(side(Path(studies), device), default=str))


def row(side: str, device: str, number: int, told: Told) -> dict[str, str | float]:
    """Row of one run."""
    times = {
        f"{what}, s": told[what]["s"] for what in ("cold", "warm", "cached", "prefetched") if what in told
    }
    stages = told["warm"]["about"].get("latencies", {}) if side == "ours" else {}
    return {
        "side": side,
        "device": device,
        "run": number,
        "parameters": told["parameters"],
        **{name: round(value, 3) for name, value in times.items()},
        "warm, core-s": round(told["warm"]["core-s"], 3),
        "peak of memory, MB": round(told["peak MB"]),
        "stages of warm, s": json.dumps({name: round(value, 2) for name, value in stages.items()}),
    }


def show(console: Console, device: str, rows: Sequence[dict[str, str | float]]) -> None:
    """Print the medians of both sides, and ours as a multiple of theirs."""
    table = Table("", "ours", "MONAI Label", "ratio", "target", title=f"on {device}", title_justify="left")
    targets = {"warm, s": "<= 0.5", "peak of memory, MB": "<= 1", "prefetched, s": f"<= {PREFETCHED_S} s"}
    for what in ("cold, s", "warm, s", "warm, core-s", "peak of memory, MB", "cached, s", "prefetched, s"):
        middle = {
            side: np.median([float(line[what]) for line in rows if line["side"] == side and what in line])
            for side in ("ours", "theirs")
            if any(line["side"] == side and what in line for line in rows)
        }
        rival = middle.get("theirs", np.median([float(r["warm, s"]) for r in rows if r["side"] == "theirs"]))
        table.add_row(
            what if "theirs" in middle else f"{what} (against its warm)",
            f"{middle['ours']:.2f}",
            f"{rival:.2f}",
            f"{middle['ours'] / rival:.3f}",
            targets.get(what, ""),
        )
    console.print(table)
    stages = [line["stages of warm, s"] for line in rows if line["side"] == "ours"]
    console.print(f"stages of ours, warm: {stages[-1]}")


def main(
    runs: Annotated[int, typer.Option(help="Runs of each side; the sides alternate.")] = 3,
    threads: Annotated[int, typer.Option(help="Threads of each run.")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Seed of the made-up values.")] = 0,
    output: Annotated[Path, typer.Option(help="CSV with one row per run.")] = RESULTS / "inference_speed.csv",
) -> None:
    """Measure both sides: python -m benchmarks.server.inference_speed --runs 3 --threads 2."""
    console, rng, rows = Console(), np.random.default_rng(seed), []
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, output.open("w", newline="") as file:
        studies = Path(folder) / "studies"
        for case in CASES:
            make_case(studies / case, rng)
        writer = None
        for number in range(runs):
            for name, side in (("ours", ours), ("theirs", theirs)):
                line = row(name, device, number, run(side, studies, device, threads))
                console.print(line)
                rows.append(line)
                writer = writer or csv.DictWriter(file, line, lineterminator="\n")
                if writer.fieldnames and not number and name == "ours":
                    writer.writeheader()
                writer.writerow(line)
                file.flush()
    show(console, device, rows)


if __name__ == "__main__":
    typer.run(main)
