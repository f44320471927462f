"""Training of networks on defended images, clean or adversarial; resumable after a crash.

>>> from splic_ext.data import load_dataset
>>> digits = load_dataset("digits", "train", limit=300)
>>> options = TrainingOptions(epochs=3, learning_rate=0.05, crop=1, flip=False, defense="tv")
>>> result = train("digits_cnn", digits, options, test=load_dataset("digits", limit=100))
>>> [epoch.epoch for epoch in result.history]
[1, 2, 3]
"""

from __future__ import annotations

from splic_ext.common.optional import optional

with optional("`splic_ext.training`", "train", "safetensors", "torch"):
    import safetensors as _safetensors  # noqa: F401
    import torch as _torch  # noqa: F401

from splic_ext.training.options import PRECISIONS, SCHEDULES, TrainingOptions
from splic_ext.training.processes import is_first_process
from splic_ext.training.records import (
    SCHEMA_VERSION,
    EpochRecord,
    EpochSeconds,
    TrainingRecord,
    TrainingResult,
)
from splic_ext.training.run import train

__all__ = [
    "PRECISIONS",
    "SCHEDULES",
    "SCHEMA_VERSION",
    "EpochRecord",
    "EpochSeconds",
    "TrainingOptions",
    "TrainingRecord",
    "TrainingResult",
    "is_first_process",
    "train",
]
