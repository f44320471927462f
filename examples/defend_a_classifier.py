"""Train a small network, put SPLIC in front of it, and attack it from outside and from inside."""

import torch

from splic_ext import attacks, defenses
from splic_ext.data import load_dataset
from splic_ext.training import TrainingOptions, train

digits, test = load_dataset("digits", "train"), load_dataset("digits", "test", limit=100)
images, labels = torch.from_numpy(test.to_float()), torch.from_numpy(test.labels)

# The network learns images that SPLIC has completed, with fresh masks in each epoch.
splic = "splic:rank=4,alternate=false"
options = TrainingOptions(epochs=4, batch_size=32, crop=0, flip=False, defense=splic)
network = train("digits_cnn", digits, options, progress=False).network.eval()
defended = defenses.Defended(network, defenses.defense_from_spec(splic)).eval()

threat = attacks.ThreatModel(epsilon=0.1, steps=20, step_size=0.02)
# Of both gradients the worse for each image; each step averages over draws of the masks.
both = [attacks.EOTPGD(threat, gradient=name, eot=4) for name in ("exact", "identity")]
inputs = {
    "clean": images,
    # Gray box: the attacker has the network, and does not know of the defence.
    "gray box": attacks.PGD(threat)(network, images, labels),
    # White box: it attacks the two together.
    "white box": attacks.WorstCase(attacks=both)(defended, images, labels),
}
print(f"{'images':<10} {'network':>8} {'behind SPLIC':>13}   accuracy in %, mean of 5 draws")
for name, batch in inputs.items():
    with torch.no_grad(), defenses.seeded_masks(0):
        right = [
            torch.stack([(model(batch).argmax(1) == labels).float() for _ in range(5)]).mean()
            for model in (network, defended)
        ]
    print(f"{name:<10} {100 * right[0]:8.1f} {100 * right[1]:13.1f}")
