"""What a training is asked for, checked: nothing here changes while it runs but the weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from splic_ext.common.checks import shortened
from splic_ext.common.outside import split_place
from splic_ext.data import Dataset
from splic_ext.defenses import Defense, Identity, as_defense
from splic_ext.evaluation.networks import check_own_network
from splic_ext.models import build_model, load_weights
from splic_ext.models.own import normalized, own_model
from splic_ext.runs.fingerprints import (
    TRAINING_CODE,
    code_fingerprint,
    derive_seed,
    fingerprint,
    fingerprint_own,
    fingerprint_source,
    fingerprint_weights,
    package_versions,
    stable_repr,
)
from splic_ext.runs.inputs import (
    MOST_SHARED,
    check_logits,
    count_shared_images,
    describe_dataset,
    is_random,
)
from splic_ext.runs.records import DatasetInfo
from splic_ext.training.batches import batch_bounds
from splic_ext.training.options import TrainingOptions
from splic_ext.training.processes import Processes

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """A training that can run; its network is on the device, with the weights to begin with."""

    network: nn.Module
    name: str
    data: Dataset
    test: Dataset | None
    options: TrainingOptions
    #: On the device; that of the options, or an object that was given in its place.
    defense: Defense
    #: Folder of the defended copies.
    cache: Path | None
    device: torch.device
    processes: Processes
    command: str | None
    #: What records say of the images.
    dataset_info: DatasetInfo
    test_info: DatasetInfo | None
    #: What determines the training: the same there and here, or it is another one.
    identity: dict[str, Any]
    #: What decides its rounding.
    environment: dict[str, Any]


def make_plan(
    model: str | nn.Module,
    data: Dataset,
    test: Dataset | None,
    options: TrainingOptions,
    cache: Path | None,
    device: torch.device,
    processes: Processes,
    command: str | None,
    weights: str | os.PathLike[str] | None = None,
    defense: nn.Module | None = None,
    normalization: tuple[Any, Any] = (None, None),
) -> Plan:
    """Build the network if it is a name, and check that all of it goes together."""
    chosen = _defense(options, defense).to(device)
    if isinstance(model, str):
        torch.manual_seed(derive_seed(options.seed, "weights"))
        outputs = options.build_hiding().outputs
        channels = outputs * data.images.shape[1]
        own = split_place(model) is not None
        build = own_model if own else build_model
        # The library's own networks know theirs, unless there are more.
        network = build(model, len(data.classes), channels if own or outputs > 1 else None)
        network = normalized(network, *normalization, model, channels)
        if weights is not None:
            load_weights(network, weights)
    else:
        if normalization != (None, None):
            raise ValueError(
                "`mean` and `std` are for a model given by its place, got a network; put "
                "`splic_ext.models.Normalized` around it"
            )
        if weights is not None:
            raise ValueError(
                "`weights` are for a model given by name, got a network; load them into it with "
                "`splic_ext.models.load_weights`"
            )
        network = model
    network.to(device)
    if isinstance(model, str) and own and outputs == 1:
        check_own_network(model, network.eval(), data, len(data.classes))
    _check_sizes(data, test, options, processes)
    for part in (data, test):
        if part is not None:
            options.build_hiding().check_size(*part.images.shape[2:])
    if options.copies and cache is None:
        raise ValueError("`copies` need a folder to be kept in; give `cache` or `output`")
    _try(network, options, chosen, device, [part for part in (data, test) if part is not None])
    processes.spread([*network.parameters(), *network.buffers()])
    known = weights is None and isinstance(model, str) and split_place(model) is None
    first = None if known else fingerprint_weights(network)  # else they follow from the seed
    dataset_info = describe_dataset(data)
    test_info = None if test is None else describe_dataset(test)
    return Plan(
        network=network,
        name=model if isinstance(model, str) else type(model).__name__,
        data=data,
        test=test,
        options=options,
        defense=chosen,
        cache=cache,
        device=device,
        processes=processes,
        command=command,
        dataset_info=dataset_info,
        test_info=test_info,
        identity={
            "options": options.identity(),
            "architecture": _architecture(network),
            "initialisation": first,
            "data set": dataset_info.sha256,
            "test set": None if test_info is None else test_info.sha256,
            **_own_code(network, chosen, given=defense is not None),
        },
        environment={
            "versions": package_versions(),
            "code": code_fingerprint(TRAINING_CODE),
            "device": device.type,
            "threads": torch.get_num_threads(),
            "processes": processes.count,
        },
    )


def _defense(options: TrainingOptions, given: nn.Module | None) -> Defense:
    """Return the defence of the options, or the object that was given in its place."""
    if given is None:
        return options.build_defense()
    if options.defense != "identity":
        raise ValueError(
            f"`defense` contradicts the `defense` of the options, {options.defense!r}; give one "
            "of them"
        )
    made = as_defense(given)
    if options.build_hiding().outputs > 1 and not isinstance(made, Identity):
        raise ValueError(
            f"`defense` must be left out with the `encoding` {options.encoding!r}, whose results "
            "are no images; leave it out, or use another encoding"
        )
    return made


def _own_code(network: nn.Module, defense: Defense, *, given: bool) -> dict[str, str]:
    """Return what tells trainings apart by code that is not of this library, if there is any."""
    found = {}
    source = fingerprint_source(network)
    if source is not None:
        found["code of the network"] = source
    if given or fingerprint_source(defense) is not None:
        found["defence" if given else "code of the defence"] = fingerprint_own(defense)
    return found


def _check_sizes(
    data: Dataset, test: Dataset | None, options: TrainingOptions, processes: Processes
) -> None:
    side = min(data.images.shape[2:])
    if options.crop >= side:
        raise ValueError(
            f"`crop` must be less than the side of the images, {side}, got {options.crop}; "
            "choose less, 1 for 8 x 8 digits"
        )
    sizes = np.diff(batch_bounds(len(data), options.batch_size))
    if sizes.min() < processes.count:
        raise ValueError(
            f"`batch_size` must give each of the {processes.count} processes an image, "
            f"got {options.batch_size}, batches of {sizes.min()} and more; use a larger one, "
            "or fewer processes"
        )
    for number, (name, other) in enumerate(
        zip(data.classes, () if test is None else test.classes, strict=False)
    ):
        if name != other and str(number) not in (name, other):  # numbers are no names
            raise ValueError(
                f"`test` must have the classes of the training images, got {shortened(other)!r} "
                f"for the class {number}, which is {shortened(name)!r} there; give images with "
                "folders or names of the same classes"
            )
    shared = 0 if test is None else count_shared_images(test, data)
    if test is not None and shared > MOST_SHARED * len(test):
        raise ValueError(
            f"`test` must have images that are not learnt, got {shared} of "
            f"{len(test)} that are among the training images; give other images"
        )


def _try(
    network: nn.Module,
    options: TrainingOptions,
    defense: Defense,
    device: torch.device,
    parts: list[Dataset],
) -> None:
    """Raise unless fill, defence and network take two images of each data set."""
    hiding = options.build_hiding()
    for data in parts:
        few = torch.from_numpy(data.first(2).to_float()).to(device)
        few = hiding.scored(few, slice(0, len(few)))
        is_random(options.defense, defense, few)
        with torch.no_grad():
            logits = network.eval()(few)
        check_logits("model", logits, len(few), int(data.labels.max()))


def _architecture(network: nn.Module) -> str:
    """Return the SHA-256 of the classes, parameters and shapes of a network."""
    return fingerprint(
        {
            "kinds": [f"{type(m).__module__}.{type(m).__qualname__}" for m in network.modules()],
            "repr": stable_repr(network),
            "shapes": {
                name: f"{value.dtype}{tuple(value.shape)}"
                for name, value in network.state_dict().items()
                if isinstance(value, torch.Tensor)
            },
        }
    )
