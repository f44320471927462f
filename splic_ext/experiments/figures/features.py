"""Figure 10: features of a network with and without SPLIC, on a plane and as numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import Enum
from importlib import import_module
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from splic_ext.attacks import PGD
from splic_ext.common.optional import optional
from splic_ext.data import Dataset
from splic_ext.defenses import seeded_masks
from splic_ext.defenses.registry import defense_from_spec
from splic_ext.evaluation.statistics import wilson_interval
from splic_ext.experiments.bench import Bench, Outcome
from splic_ext.experiments.results import keys
from splic_ext.experiments.results.rows import ACCURACY, Point
from splic_ext.experiments.subjects import Subject
from splic_ext.runs.fingerprints import derive_seed
from splic_ext.runs.inputs import describe_dataset

__all__ = ["figure10", "last_features", "require_sklearn"]

#: Images, by the scale of the budget.
IMAGES = {"smoke": 40, "cpu": 300, "gpu": 1_000}
#: Of the classifier by neighbours, which says whether classes are apart.
NEIGHBOURS = 10
#: Of t-SNE, if there are enough images: about as many neighbours count.
PERPLEXITY = 30.0
#: t-SNE looks at this many images around each, times the perplexity, which is at least 1.
PER_UNIT = 3

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class _Part(Enum):
    """What is shown of features, in the words of notes."""

    PLANE = "the plane of t-SNE"
    VOTE = "the vote of the neighbours"
    SILHOUETTE = "the silhouette"


def require_sklearn() -> None:
    """Raise the error that names the extra where scikit-learn is not installed."""
    with optional("`figure10`", "data", "sklearn"):
        import_module("sklearn.manifold")


def last_features(model: nn.Module, images: torch.Tensor) -> Features:
    """Return what a network in eval mode hands to its last linear layer."""
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    if not layers:
        raise ValueError(
            f"`model` must have a linear layer for its features, got {type(model).__name__}; "
            "give a network that ends with one"
        )
    found: list[torch.Tensor] = []
    hook = layers[-1].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    try:
        with torch.no_grad():
            model(images)
    finally:
        hook.remove()
    features: Features = found[-1].flatten(1).float().cpu().numpy()
    return features


def figure10(bench: Bench) -> Outcome:
    """Features of clean and of attacked images, without a defence and with SPLIC."""
    outcome = Outcome()
    for subject in bench.subjects:
        data = bench.shown(subject, bench.settings.budget.pick(IMAGES))
        info = describe_dataset(data)
        outcome.datasets.append(info)
        lacking = _lacking(data.labels)
        outcome.notes += [
            f"{info.name}: without {part.value}, which needs {need}"
            for part, need in lacking.items()
        ]
        if len(lacking) < len(_Part):  # otherwise there is nothing to train for
            outcome.points += _points(bench, subject, data, info.name, lacking)
    if not outcome.points:
        return outcome
    outcome.notes += [
        "what a network hands to its last layer, by t-SNE; both networks are trained alike, one "
        "on completed images",
        "PGD of 7 steps of 2/255 on the network itself, without its defence (gray box)",
        f"neighbours: the share of images whose {NEIGHBOURS} nearest other images vote for their "
        "class; silhouette: from -1 to 1, larger where classes lie apart",
        "a plane of t-SNE shows who is near whom; its distances and gaps mean nothing",
    ]
    return outcome


def _lacking(labels: Labels) -> dict[_Part, str]:
    """Return what cannot be shown of so few images -> what it needs, and what there is."""
    images, classes = len(labels), len(set(labels.tolist()))
    found = {}
    if images <= PER_UNIT:
        found[_Part.PLANE] = f"{PER_UNIT + 1} images at least, got {images}"
    if images <= NEIGHBOURS:
        found[_Part.VOTE] = f"{NEIGHBOURS + 1} images at least, got {images}"
    if not 2 <= classes < images:
        found[_Part.SILHOUETTE] = (
            f"2 classes at least, and more images than classes, got {classes} of {images}"
        )
    return found


def _points(
    bench: Bench, subject: Subject, data: Dataset, name: str, lacking: Collection[_Part]
) -> list[Point]:
    """Return planes of clean images, planes of attacked ones, then the numbers of both."""
    planes: dict[str, list[Point]] = {keys.CLEAN: [], keys.PGD: []}
    numbers: list[Point] = []
    for title, spec in (("without defence", "identity"), ("SPLIC", "splic")):
        model = bench.trained(subject, defense=spec).model
        found = _features(bench, model, spec, data)
        for place, (kind, features) in enumerate(found.items()):
            if _Part.PLANE not in lacking:
                section, seed = f"{name}, {title}, {kind}", bench.settings.seed
                planes[kind] += _plane(features, data, section, seed)
            numbers += [
                Point(
                    f"{name}, {section}", title, "images", place, y_name, y, low, high, len(data),
                    dataset=name, label=kind, kind="bar",
                )
                for section, y_name, y, low, high in _numbers(features, data.labels, lacking)
            ]  # fmt: skip
    return [point for part in (*planes.values(), numbers) for point in part]


def _features(bench: Bench, model: nn.Module, spec: str, data: Dataset) -> dict[str, Features]:
    """Return the features of clean images and of attacked ones, behind the defence."""
    device = next(model.parameters()).device
    defense, settings = defense_from_spec(spec).to(device), bench.settings
    found: dict[str, list[Features]] = {keys.CLEAN: [], keys.PGD: []}
    for start in range(0, len(data), settings.batch_size):
        part = slice(start, start + settings.batch_size)
        images = torch.from_numpy(data.to_float()[part]).to(device)
        labels = torch.from_numpy(data.labels[part]).to(device)
        attacked = PGD().run(model, images, labels, index=start, seed=settings.seed)
        for kind, batch in ((keys.CLEAN, images), (keys.PGD, attacked)):
            with torch.no_grad(), seeded_masks(derive_seed(settings.seed, "features")):
                defended = defense(batch, index=start)
            found[kind].append(last_features(model, defended))
    return {kind: np.concatenate(parts) for kind, parts in found.items()}


def _plane(features: Features, data: Dataset, section: str, seed: int) -> list[Point]:
    """Return the images as points of a plane, in the order of their classes."""
    manifold: Any = import_module("sklearn.manifold")
    embedding = manifold.TSNE(
        perplexity=min(PERPLEXITY, (len(features) - 1) / PER_UNIT),
        init="pca",
        learning_rate="auto",
        random_state=seed % 2**32,
    )
    places = embedding.fit_transform(features)
    name = section.partition(",")[0]
    return [
        Point(
            section, data.classes[label], "t-SNE 1", round(float(x), 2), "t-SNE 2",
            round(float(y), 2), dataset=name, kind="scatter",
        )
        for (x, y), label in sorted(zip(places, data.labels, strict=True), key=itemgetter(1))
    ]  # fmt: skip


def _numbers(
    features: Features, labels: Labels, lacking: Collection[_Part]
) -> Iterator[tuple[str, str, float, float | None, float | None]]:
    """Yield how well classes are apart: section, axis, value and its interval."""
    if _Part.VOTE not in lacking:
        right, count = int(_neighbours_agree(features, labels).sum()), len(labels)
        low, high = wilson_interval(right, count)
        yield "neighbours", ACCURACY, 100 * right / count, 100 * low, 100 * high
    if _Part.SILHOUETTE not in lacking:
        metrics: Any = import_module("sklearn.metrics")
        score = float(metrics.silhouette_score(features, labels))
        yield "silhouette", "silhouette", score, None, None


def _neighbours_agree(features: Features, labels: Labels) -> npt.NDArray[np.bool_]:
    """Return whether the nearest images of each vote for its class."""
    neighbors: Any = import_module("sklearn.neighbors")
    search = neighbors.NearestNeighbors(n_neighbors=NEIGHBOURS).fit(features)
    nearest = labels[search.kneighbors(return_distance=False)]  # without the image itself
    votes = np.stack([np.bincount(line, minlength=labels.max() + 1) for line in nearest])
    agree: npt.NDArray[np.bool_] = votes.argmax(axis=1) == labels
    return agree
