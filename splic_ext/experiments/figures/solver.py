"""Figures 4, 5 and 12: what the solver does to images, without any network."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from splic_ext.completion import complete
from splic_ext.data import Dataset
from splic_ext.data.photos import PHOTOS, load_photos
from splic_ext.defenses import defense_from_spec
from splic_ext.errors import MissingExtraError
from splic_ext.experiments.bench import Bench, Outcome
from splic_ext.experiments.results.rows import Gallery, Point, encode_picture
from splic_ext.options import SolverOptions
from splic_ext.runs.inputs import describe_dataset

__all__ = ["CURVES", "figure4", "figure5", "figure12", "psnr"]

#: Curves of figure 4.
CURVES = 4
#: Columns of figure 5, and the pixels of their sides, by the scale of the budget.
PHOTOGRAPHS = {"smoke": 1, "cpu": 4, "gpu": 4}
SIDES = {"smoke": 32, "cpu": 112, "gpu": 112}
#: Its ranks: the side divided by these.
PARTS = (1, 2, 4, 8, 16)
#: Defences of figure 12 -> names.
QUALITIES = {
    "srf": "SRF (lambda 0, channels apart)",
    "splic:tv_weight=0.0": "SPLIC, lambda 0",
    "splic:channels=separate": "SPLIC, channels apart",
    "splic": "SPLIC",
}
#: Images at a time.
CHUNK = 200

Images = npt.NDArray[np.float32]


def psnr(images: Images, originals: Images) -> npt.NDArray[np.float64]:
    """Return the peak signal-to-noise ratio of each image in dB, of values in [0, 1]."""
    difference = np.asarray(images, np.float64) - np.asarray(originals, np.float64)
    error = (difference**2).reshape(len(difference), -1).mean(axis=1)
    found: npt.NDArray[np.float64] = -10 * np.log10(np.maximum(error, 1e-12))
    return found


def figure4(bench: Bench) -> Outcome:
    """Relative change of the first pass in each iteration."""
    outcome, seed = Outcome(), bench.settings.seed
    options = SolverOptions(alternate=False, tolerance=0.0)
    for subject in bench.subjects:
        data = bench.shown(subject, CURVES)
        images, name = data.to_float(), describe_dataset(data).name
        for iteration in range(1, options.max_iterations + 1):
            cut = options.replace(max_iterations=iteration)
            result, info = complete(images, options=cut, seed=seed, return_info=True)
            norms = np.linalg.norm(np.asarray(result, np.float64).reshape(len(data), -1), axis=1)
            change = info.residual[:, 0] * images[0].size / np.maximum(norms, 1e-12)
            axes = ("iteration", iteration, "relative change")
            outcome.points += [
                Point(name, f"image {i}", *axes, float(value), dataset=name)
                for i, value in enumerate(change)
                if value > 0
            ]
        outcome.datasets.append(describe_dataset(data))
    outcome.notes.append(
        "relative change: the norm of an iteration's change, divided by the norm of the matrix; "
        "first pass, paper's constants; delta falls every "
        f"{options.inner_iterations} iterations"
    )
    return outcome


def figure5(bench: Bench) -> Outcome:
    """Pictures that are completed with less and less rank."""
    seed = bench.settings.seed
    photos, names, note = _photographs(bench)
    side = photos.shape[2]
    lines, captions = {"original": photos}, [("",) * len(photos)]
    for part in PARTS:
        rank = max(1, side // part)
        done = complete(photos, options=SolverOptions(rank=rank, tolerance=0.0), seed=seed)
        lines[f"r = {rank}"] = done
        captions.append(tuple(f"{value:.1f} dB" for value in psnr(done, photos)))
    title = f"SPLIC with different ranks, {side} x {side} pixels"
    pictures = tuple(tuple(map(encode_picture, line)) for line in lines.values())
    right = ((None,) * len(photos),) * len(lines)
    gallery = Gallery("ranks", title, tuple(lines), names, pictures, tuple(captions), right)
    return Outcome(galleries=[gallery], notes=[note, "below each its PSNR; no pass ends early"])


def _photographs(bench: Bench) -> tuple[Images, tuple[str, ...], str]:
    """Return colour images in [0, 1], channel first: photographs, or enlarged test images."""
    budget = bench.settings.budget
    side, count = budget.pick(SIDES), budget.pick(PHOTOGRAPHS)
    try:
        photos = load_photos(side)[:count].transpose(0, 3, 1, 2)
    except MissingExtraError:
        subject = bench.subjects[0]
        data = bench.shown(subject, count)
        enlarged = torch.nn.functional.interpolate(
            torch.from_numpy(data.to_float()), (side, side), mode="bicubic", antialias=True
        )
        names = tuple(data.classes[label] for label in data.labels)
        note = f"images of {data.name}, enlarged; scikit-image has photographs"
        return enlarged.clamp(0, 1).numpy(), names, note
    names = tuple(name.partition(".")[0] for name in PHOTOS[:count])
    return np.ascontiguousarray(photos), names, "photographs of scikit-image"


def figure12(bench: Bench) -> Outcome:
    """PSNR of completed clean images, with and without total variation."""
    outcome, settings = Outcome(), bench.settings
    for place, subject in enumerate(bench.subjects):
        most = settings.images
        data = subject.dataset if most is None else subject.dataset.first(most)
        info = describe_dataset(data)
        for spec, title in QUALITIES.items():
            values = _qualities(spec, data, settings.seed)
            mean, error = values.mean(), values.std() / math.sqrt(len(values))
            outcome.points.append(
                Point(
                    "clean images", title, "data set", place, "PSNR (dB)", float(mean),
                    float(mean - 1.96 * error), float(mean + 1.96 * error), len(values),
                    dataset=info.name, label=info.name, kind="bar",
                )
            )  # fmt: skip
        outcome.datasets.append(info)
    outcome.notes.append(
        "mean over the images with its 95 % interval, one draw of the masks; the paper has bars "
        "for SRF and SPLIC, without numbers"
    )
    return outcome


def _qualities(spec: str, data: Dataset, seed: int) -> npt.NDArray[np.float64]:
    """Return the PSNR of each image behind a defence."""
    defense = defense_from_spec(f"{spec}{',' if ':' in spec else ':'}seed={seed}")
    images, found = data.to_float(), []
    for start in range(0, len(data), CHUNK):
        part = images[start : start + CHUNK]
        with torch.no_grad():
            done = defense(torch.from_numpy(part), index=start)
        found.append(psnr(done.numpy(), part))
    return np.concatenate(found)
