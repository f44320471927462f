"""The library in one process for long: ``PYTHONPATH=python_tests python -m fuzz.soak [SECONDS]``.

Completions, gradients, attacks on a defence and files, of random shapes and threads, for
SPLIC_SOAK_SECONDS, by default 600. Memory, open files and threads must not grow after the first
quarter, and fixed problems keep their bits. The exit code is 1 where one does. SPLIC_FUZZ_SEED is
the seed.
"""

from __future__ import annotations

import gc
import hashlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import splic_ext
from splic_ext import SolverOptions, attacks, defenses
from splic_ext.autograd import complete_differentiable
from splic_ext.files import JobSettings, plan_jobs, run_jobs

__all__ = ["STEPS", "soak"]

#: Bytes that the memory may grow by after the first quarter: what allocators keep.
GROWTH = 24 * 2**20
PROC = Path("/proc/self")


def usage() -> tuple[int, int, int]:
    """Bytes of memory, open files, threads of this process."""
    gc.collect()
    pages = int((PROC / "statm").read_text().split()[1])
    files, threads = (len(list((PROC / name).iterdir())) for name in ("fd", "task"))
    return pages * os.sysconf("SC_PAGE_SIZE"), files, threads


def draw(rng: random.Random) -> tuple[np.ndarray, SolverOptions]:
    shape = (rng.randint(1, 6), rng.choice((1, 3)), rng.randint(4, 24), rng.randint(4, 24))
    images = np.random.default_rng(rng.randrange(2**32)).random(shape, np.float32)
    options = SolverOptions(
        max_iterations=rng.choice((3, 9)), n_masks=rng.choice((1, 2)),
        channels=rng.choice(("stacked", "separate")), alternate=rng.random() < 0.5,
    )  # fmt: skip
    return images, options


def complete(rng: random.Random) -> bytes:
    images, options = draw(rng)
    return splic_ext.complete(images, options=options, threads=rng.randint(1, 5)).tobytes()


def gradient(rng: random.Random) -> bytes:
    images, options = draw(rng)
    leaf = torch.from_numpy(images).requires_grad_()
    kind = rng.choice(("exact", "surrogate"))
    result = complete_differentiable(leaf, options=options, gradient=kind, threads=2)
    result.square().sum().backward()
    return leaf.grad.numpy().tobytes()


def attack(rng: random.Random) -> bytes:
    images, options = draw(rng)
    batch = torch.from_numpy(images)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(batch[0].numel(), 3)).eval()
    with torch.no_grad():
        for i, parameter in enumerate(network.parameters()):
            parameter.copy_(torch.linspace(-1, 1 + i, parameter.numel()).view_as(parameter).sin())
    defended = defenses.Defended(network, defenses.SPLIC(options, seed=7, gradient="exact")).eval()
    labels = torch.zeros(len(batch), dtype=torch.long)
    eot = attacks.EOTPGD(attacks.ThreatModel(steps=2, restarts=1), eot=2)
    return eot(defended, batch, labels).numpy().tobytes()


class Deaf:
    """A reporter that nobody reads."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **more: None


def files(rng: random.Random) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        for i in range(3):
            images, options = draw(rng)
            pixels = (255 * images[0].transpose(1, 2, 0)).astype(np.uint8)
            Image.fromarray(pixels.squeeze()).save(source / f"{i}.png")
        Path(source, "bad.png").write_bytes(b"no image")
        jobs = plan_jobs([str(source)], target)
        assert run_jobs(jobs, JobSettings(options, jobs=2), Deaf()) == 1, "the damaged file"
        return b"".join(path.read_bytes() for path in sorted(target.rglob("*.png")))


STEPS: dict[str, Callable[[random.Random], bytes]] = {
    "complete": complete, "gradient": gradient, "attack": attack, "files": files,
}  # fmt: skip


def soak(seconds: float, seed: int = 0) -> tuple[str, list[str]]:
    """Go on for so long; return what was done, and what is wrong."""
    rng, faults, rounds = random.Random(seed), [], 0
    first: dict[str, str] = {}
    begin, before, now = time.monotonic(), None, (0, 0, 0)
    while (gone := time.monotonic() - begin) < seconds or rounds < 8:
        for name, step in STEPS.items():
            step(rng)
            bits = hashlib.sha256(step(random.Random(seed))).hexdigest()
            if first.setdefault(name, bits) != bits:
                faults.append(f"{name}: the bits of a fixed problem changed in round {rounds}")
        rounds += 1
        if before is None and gone >= seconds / 4 and rounds >= 4:
            before = usage()
    now = usage()
    for what, old, new, most in zip(
        ("memory", "open files", "threads"), before, now, (GROWTH, 0, 0), strict=True
    ):
        if new > old + most:
            faults.append(f"{what} grew from {old:,} to {new:,}")
    done = (
        f"{rounds} rounds of {', '.join(STEPS)} in {gone:.0f} s; memory {before[0] / 2**20:.0f} to "
        f"{now[0] / 2**20:.0f} MiB, open files {before[1]} to {now[1]}, threads {before[2]} to "
        f"{now[2]}; {len(faults)} faults"
    )
    return done, faults


if __name__ == "__main__":
    default = os.environ.get("SPLIC_SOAK_SECONDS", "600")
    told, wrong = soak(
        float(sys.argv[1] if len(sys.argv) > 1 else default),
        int(os.environ.get("SPLIC_FUZZ_SEED", "0")),
    )
    print(told, *wrong, sep="\n")
    sys.exit(1 if wrong else 0)
