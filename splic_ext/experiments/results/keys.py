"""Keys of results: what files call attacks and sections, and what tables show for them.

A key is written into files and read from old ones, so it never changes. Code compares keys; what
a reader sees is a title, which may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = [
    "ADAPTIVE", "BPDA", "BPDA_WHITE", "CLEAN", "GRADIENTS", "PAPER_ATTACKS", "PGD", "PGD_BLACK",
    "PGD_GRAY", "SECTIONS", "SMOKE", "WORST", "attack_key", "attack_title", "note_title",
    "section_key",
]  # fmt: skip

#: Name of the result of the adaptive protocol.
ADAPTIVE = "adaptive"
#: Budget of results whose numbers mean nothing.
SMOKE = "smoke"

#: Keys of attacks. Others are named by their parameters, such as "8/255", and are titles as well.
CLEAN = "clean"
PGD, BPDA = "PGD", "BPDA"
PGD_GRAY, PGD_BLACK, BPDA_WHITE = "PGD, gray box", "PGD, black box", "BPDA, white box"
WORST = "worst of them"
#: Attack of the paper, as it is called in code -> its key.
PAPER_ATTACKS: Mapping[str, str] = MappingProxyType({"fgsm": "FGSM", "pgd": PGD, "cw": "CW"})
#: Gradient of an adaptive attack in table 2 -> its key.
GRADIENTS: Mapping[str, str] = MappingProxyType(
    {"identity": "past it", "exact": "through it", "surrogate": "smooth cut"}
)
_NAMES = {**PAPER_ATTACKS, "bpda": BPDA}
_TITLES = {key: gradient for gradient, key in GRADIENTS.items()}

#: Section of the adaptive protocol, as `sections` takes it -> its key in files, which is its title.
SECTIONS: Mapping[str, str] = MappingProxyType(
    {
        "gradients": "gradients",
        "still": "masks held still",
        "draws": "draws for each gradient",
        "losses": "losses and step rules",
        "steps": "steps",
        "radius": "radius",
        "queries": "queries",
        "transfer": "transfer from the network without the defence",
        "surrogates": "transfer from other networks",
        "others": "attacks of others",
        "parts": "without its parts",
        "broken": "known to be broken",
    }
)
_SECTION_KEYS = {title: word for word, title in SECTIONS.items()}


def attack_key(name: str | None) -> str:
    """Return the key of an attack by its name in an evaluation; None stands for clean images."""
    return CLEAN if name is None else _NAMES.get(name, name)


def attack_title(key: str) -> str:
    """Return what a table shows for an attack."""
    return _TITLES.get(key, key)


def note_title(note: str) -> str:
    """Return a note with the words of :func:`attack_title`; notes of table 2 once had others."""
    return note.replace(", ".join(GRADIENTS.values()), ", ".join(GRADIENTS))


def section_key(title: str) -> str | None:
    """Return the word for a section of the adaptive protocol, by what files call it."""
    return _SECTION_KEYS.get(title)
