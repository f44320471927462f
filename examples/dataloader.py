"""Complete training images in a DataLoader: a whole batch at once, with fresh masks each time."""

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

from splic_ext import SolverOptions
from splic_ext.data import load_dataset
from splic_ext.transforms import CompleteCollate


def main():
    """Go through two epochs."""
    torch.manual_seed(0)
    digits = load_dataset("digits", "train", limit=512)
    images, labels = torch.from_numpy(digits.to_float()), torch.from_numpy(digits.labels)
    loader = DataLoader(
        TensorDataset(images, labels),
        batch_size=128,
        num_workers=2,
        # Masks differ between workers and epochs; each worker has one thread.
        collate_fn=CompleteCollate(SolverOptions(rank=4)),
    )
    epochs = [torch.cat([batch for batch, _ in loader]) for _ in range(2)]
    for number, epoch in enumerate(epochs, 1):
        change = np.sqrt((epoch - images).square().mean().item())
        print(f"epoch {number}: {len(epoch)} images, RMS change {change:.3f}")
    print("the same masks in both:", torch.equal(*epochs))


if __name__ == "__main__":  # workers that are not forked import this file
    main()
