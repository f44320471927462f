"""Score defences under attacks, with intervals, and keep all that a number depends on."""

from splic_ext.data import load_dataset
from splic_ext.evaluation import EvaluationReport, evaluate, to_markdown
from splic_ext.training import TrainingOptions, train

digits, test = load_dataset("digits", "train"), load_dataset("digits", "test", limit=100)
options = TrainingOptions(epochs=4, batch_size=32, crop=0, flip=False)
network = train("digits_cnn", digits, options, progress=False).network

report = evaluate(
    network,
    test,
    defenses=["identity", "tv:weight=0.1", "splic:rank=4"],
    attacks=["pgd:epsilon=0.1,steps=10,step_size=0.02"],
    scenario="gray",  # the attacker does not know the defences
    draws=3,  # of the random ones: the mean, all draws and the vote are scored
    output="evaluation",  # a second run takes up what is there, after a crash too
    progress=False,
)
print(to_markdown(report))

# The folder has the same as JSON: seeds, versions, hashes of network, data and code.
again = EvaluationReport.load("evaluation/report.json")
record = again.select(defense="splic:rank=4", attack=None)[0]
print("clean accuracy behind SPLIC, mean over the draws:", record.mean)
print("seed", record.seed, "network", record.model.sha256[:12])
