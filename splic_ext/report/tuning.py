"""The search for the preset "recommended", as ``benchmarks/tune_preset.py`` writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from splic_ext.runs.plain import decode, not_too_deep, read_versioned

__all__ = ["Setting", "TuningRun"]

#: Of the JSON form.
SCHEMA_VERSION = 1
#: Keys of the file that no table here shows.
OTHERS = ("machine", "versions", "threads", "round_1", "photograph_psnr", "test_report")


@dataclass(frozen=True)
class Setting:
    """Solver options that were tried.

    Attributes
    ----------
    options : dict or None
        What differs from the preset "paper"; None is no defence.
    clean, fgsm, pgd : float
        Accuracy in %.
    clean_interval, fgsm_interval, pgd_interval : tuple of float
    score : float
        The mean of the three.
    """

    options: dict[str, Any] | None
    clean: float
    clean_interval: tuple[float, ...]
    fgsm: float
    fgsm_interval: tuple[float, ...]
    pgd: float
    pgd_interval: tuple[float, ...]
    score: float

    @property
    def title(self) -> str:
        """How a table names it."""
        if self.options is None:
            return "no defence"
        changes = (f"{key}={json.dumps(value)}" for key, value in self.options.items())
        return ", ".join(changes) or "preset paper"


@dataclass(frozen=True)
class TuningRun:
    """What decided on the preset: the second round of the search.

    Attributes
    ----------
    date, command, data : str
    images, seeds : dict
        How many in each round.
    undefended : Setting
    chosen : dict
        Options that differ from the preset "paper".
    round_2 : tuple of Setting
    versions : dict
    cpu : str
    """

    date: str
    command: str
    data: str
    images: dict[str, int]
    seeds: dict[str, int]
    undefended: Setting
    chosen: dict[str, Any]
    round_2: tuple[Setting, ...]
    versions: dict[str, str | None]
    cpu: str

    @classmethod
    def from_json(cls, text: str) -> TuningRun:
        """Return the search that a text in JSON holds.

        Parameters
        ----------
        text : str

        Raises
        ------
        ValueError
            No JSON, another version of the schema, or not as it was written.
        """
        what = "the search for a preset"
        with not_too_deep(what):
            values = read_versioned(text, SCHEMA_VERSION, what)
            shown = {key: value for key, value in values.items() if key not in OTHERS}
            machine = values.get("machine")
            shown["versions"] = values.get("versions")
            shown["cpu"] = machine.get("cpu") if isinstance(machine, dict) else None
            for key in ("undefended", "round_2"):
                shown[key] = _settings(shown.get(key))
            return decode(cls, shown, "search")


def _settings(values: Any) -> Any:
    """Keep what a :class:`Setting` has."""
    if isinstance(values, list):
        return [_settings(value) for value in values]
    if not isinstance(values, dict):
        return values
    return {key: value for key, value in values.items() if key in Setting.__dataclass_fields__}
