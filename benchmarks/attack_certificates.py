"""Attack what is certified, and what is not, by patches: the counts of docs/certify.md.

    python benchmarks/attack_certificates.py --dataset ... --weights ... --output FILE

Images that the vote gets right are attacked by gradients through masks and fill
(:func:`splic_ext.certify.attack_patches`) and by patches that ART's adversarial patch attack has
learnt on the network alone, pasted at many places. No certified image may be turned; the command
fails if one is. Patches on images without a certificate are put where the proof fails.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
import warnings
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch

from splic_ext.certify import MaskedVote, attack_patches, certify_patches
from splic_ext.data import load_dataset
from splic_ext.models import build_model, load_weights
from splic_ext.runs.machine import describe_machine
from splic_ext.runs.plain import encode


def parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--fill", default="splic")
    parser.add_argument("--patch", type=int, default=5)
    parser.add_argument("--masks", type=int, default=6)
    parser.add_argument("--limit", type=int, default=100, help="images that are certified")
    parser.add_argument("--certified", type=int, default=25, help="certified images attacked")
    parser.add_argument("--others", type=int, default=15, help="other images attacked")
    parser.add_argument("--places", type=int, default=8)
    parser.add_argument("--restarts", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--pasted", type=int, default=24, help="places of ART's patches")
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args()


def learnt_patches(network, images, labels, side, classes):
    """Return patches (K, C, side, side) of ART's attack: one towards some classes, one away."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ART's optional parts
        from art.attacks.evasion import AdversarialPatchNumpy
        from art.estimators.classification import PyTorchClassifier

    class Patch(AdversarialPatchNumpy):
        patch = np.float32(0.5)  # ART 1.20 looks at it before it is set

    shape = images.shape[1:]
    classifier = PyTorchClassifier(
        network, torch.nn.CrossEntropyLoss(), shape, classes, clip_values=(0.0, 1.0)
    )
    found = []
    for target in (None, 0, 3, 8):
        scale = side / min(shape[1:])
        attack = Patch(
            classifier,
            rotation_max=0.0,
            scale_min=scale,
            scale_max=scale,
            learning_rate=5.0,
            max_iter=60,
            batch_size=len(images),
            targeted=target is not None,
            verbose=False,
        )
        attack.reset_patch(None)
        wanted = labels if target is None else np.full(len(labels), target)
        patch, _ = attack.generate(images, np.eye(classes, dtype=np.float32)[wanted])
        small = torch.nn.functional.interpolate(
            torch.from_numpy(np.asarray(patch, np.float32))[None], (side, side), mode="area"
        )
        found.append(small[0].clamp(0, 1))
    return torch.stack(found)


def pasted(image, patches, count, seed):
    """Return the image with each of the patches in turn, at random places."""
    rng = np.random.default_rng(seed)
    side = patches.shape[-1]
    batch = image.repeat(count, 1, 1, 1)
    for i in range(count):
        top, left = rng.integers(0, image.shape[-2] - side + 1, 2)
        batch[i, :, top : top + side, left : left + side] = patches[i % len(patches)]
    return batch


def centred(masks, pair, side):
    """Return places of a patch that the first of two masks hides."""
    top, left, high, wide = masks.boxes[pair[0]]
    rows = {top, top + (high - side) // 2, top + high - side}
    columns = {left, left + (wide - side) // 2, left + wide - side}
    return [(r, c, side, side) for r in sorted(rows) for c in sorted(columns)]


def main():
    arguments = parse()
    began = time.perf_counter()
    data = load_dataset(arguments.dataset, "test", limit=arguments.limit)
    network = load_weights(build_model(arguments.model, len(data.classes)), arguments.weights)
    network.eval()
    images, labels = torch.from_numpy(data.to_float()), data.labels
    options = {"patch": arguments.patch, "masks": arguments.masks, "fill": arguments.fill}
    vote = MaskedVote(network, **options)
    masks = vote.mask_set(*images.shape[2:])
    found = certify_patches(network, images, labels, **options)
    right = [c for c in found if c.answer == c.label]
    groups = {
        "certified": [c for c in right if c.certified][: arguments.certified],
        "others": [c for c in right if not c.certified][: arguments.others],
    }
    count = min(len(images), 64)
    patches = learnt_patches(
        network, images[:count].numpy(), labels[:count], arguments.patch, len(data.classes)
    )
    rows = {}
    for name, group in groups.items():
        row = {"images": len(group), "gradient_pairs": 0, "gradient_turned": 0}
        row |= {"art_pairs": 0, "art_turned": 0, "images_turned": 0}
        for certificate in group:
            i = certificate.index
            places = arguments.places
            if certificate.failed is not None:
                places = centred(masks, certificate.failed, arguments.patch)
            (result,) = attack_patches(
                vote,
                images[i : i + 1],
                labels[i : i + 1],
                places=places,
                restarts=arguments.restarts,
                steps=arguments.steps,
                seed=i,
            )
            answers = vote(pasted(images[i], patches, arguments.pasted, i)).numpy()
            turned = [
                sum(a != certificate.label for a in part) for part in (result.answers, answers)
            ]
            row["gradient_pairs"] += result.tried
            row["gradient_turned"] += turned[0]
            row["art_pairs"] += len(answers)
            row["art_turned"] += int(turned[1])
            row["images_turned"] += bool(sum(turned))
        rows[name] = row
        print(name, row, flush=True)
    values = {
        "command": shlex.join(["python", "benchmarks/attack_certificates.py", *sys.argv[1:]]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": encode(describe_machine(torch.device("cpu"))),
        "images": len(images),
        "certified": sum(c.certified for c in found),
        "right": len(right),
        "seconds": round(time.perf_counter() - began, 1),
        **{
            key: value
            for key, value in vars(arguments).items()
            if key in ("fill", "patch", "steps")
        },
        "groups": rows,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    broken = rows["certified"]["gradient_turned"] + rows["certified"]["art_turned"]
    if broken:
        sys.exit(f"{broken} patches turned certified images: a certificate is false")


if __name__ == "__main__":
    main()
