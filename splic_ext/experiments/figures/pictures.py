"""Figures 3 and 8: attacked images, what SPLIC makes of them, and what networks take them for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from splic_ext.attacks import BPDA, PGD
from splic_ext.data import Dataset
from splic_ext.defenses import Defended, seeded_masks
from splic_ext.defenses.registry import defense_from_spec
from splic_ext.experiments.bench import Bench, Outcome
from splic_ext.experiments.results.rows import Gallery, encode_picture
from splic_ext.runs.fingerprints import derive_seed
from splic_ext.runs.inputs import describe_dataset

__all__ = ["figure3", "figure8"]

#: Columns, by the scale of the budget; figure 3 has fewer.
PICTURES = {"smoke": 3, "cpu": 7, "gpu": 7}
FEW = 4
#: Pictures have this many pixels a side at least.
SMALLEST = 64


def figure3(bench: Bench) -> Outcome:
    """Images that were attacked without the defence, and what SPLIC makes of them."""
    outcome, seed = Outcome(), bench.settings.seed
    for subject in bench.subjects:
        data = bench.shown(subject, min(FEW, bench.settings.budget.pick(PICTURES)))
        network = bench.undefended(subject)
        model = network.model
        images, labels = _tensors(data, model)
        attacked = PGD().run(model, images, labels, index=0, seed=seed)
        defended = _defend(attacked, seed)
        title = f"{data.name}: PGD on {network.name} without a defence, and SPLIC"
        lines = {"attacked": attacked, "SPLIC": defended}
        answers = (model(attacked), model(defended))
        outcome.galleries.append(_gallery(data, title, lines, answers))
        outcome.datasets.append(describe_dataset(data))
        outcome.notes.append(network.note)
    outcome.notes += [
        "below each what the network takes it for, with its probability",
        "the first images of each data set, not chosen; PGD of 7 steps of 2/255, paper's constants",
    ]
    return outcome


def figure8(bench: Bench) -> Outcome:
    """Images attacked in the white box, by BPDA, with a network that was trained on SPLIC."""
    outcome, seed = Outcome(), bench.settings.seed
    for subject in bench.subjects:
        data = bench.shown(subject, bench.settings.budget.pick(PICTURES))
        model = bench.trained(subject, defense="splic").model
        images, labels = _tensors(data, model)
        target = Defended(model, defense_from_spec("splic"))
        attacked = BPDA().run(target, images, labels, index=0, seed=seed)
        defended = _defend(attacked, seed)
        lines = {"original": images, "attacked": attacked, "SPLIC": defended}
        answers = (model(_defend(images, seed)), model(attacked), model(defended))
        outcome.galleries.append(_gallery(data, f"{data.name}: white box, BPDA", lines, answers))
        outcome.datasets.append(describe_dataset(data))
    outcome.notes += [
        "below each what a network that was trained on completed images takes it for: originals "
        "behind SPLIC, attacked images without it, and in the last row with it",
        "the first images of each data set, not chosen; BPDA of 7 steps of 2/255 on this network "
        "behind SPLIC",
    ]
    return outcome


def _tensors(data: Dataset, model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    device = next((value.device for value in model.state_dict().values()), torch.device("cpu"))
    return torch.from_numpy(data.to_float()).to(device), torch.from_numpy(data.labels).to(device)


def _defend(images: torch.Tensor, seed: int) -> torch.Tensor:
    with torch.no_grad(), seeded_masks(derive_seed(seed, "pictures")):
        defended: torch.Tensor = defense_from_spec("splic")(images, index=0)
    return defended


def _gallery(
    data: Dataset, title: str, lines: Mapping[str, torch.Tensor], logits: Sequence[torch.Tensor]
) -> Gallery:
    """Return a row of pictures for each line, with what the network takes them for."""
    magnify = -(-SMALLEST // min(data.images.shape[2:]))
    pictures, captions, right = [], [], []
    for batch, answers in zip(lines.values(), logits, strict=True):
        likely, chosen = answers.detach().float().softmax(dim=1).max(dim=1)
        told = zip(chosen.tolist(), likely.tolist(), strict=True)
        pictures.append(tuple(encode_picture(x.cpu().numpy(), magnify=magnify) for x in batch))
        captions.append(tuple(f"{data.classes[choice]} {share:.2f}" for choice, share in told))
        right.append(tuple((chosen.cpu().numpy() == data.labels).tolist()))
    columns = tuple(data.classes[label] for label in data.labels)
    section = data.name.partition("/")[0]
    return Gallery(
        section, title, tuple(lines), columns, tuple(pictures), tuple(captions), tuple(right)
    )
