"""SHA-256 of what decides a result: arrays, networks, defences, this package's own code."""

from __future__ import annotations

import hashlib
import inspect
import json
import secrets
from collections.abc import Mapping
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

import splic_ext
from splic_ext.options import SolverOptions

__all__ = [
    "CERTIFY_CODE",
    "code_fingerprint",
    "derive_seed",
    "fingerprint",
    "fingerprint_arrays",
    "fingerprint_module",
    "fingerprint_own",
    "fingerprint_source",
    "fingerprint_weights",
    "package_versions",
    "stable_repr",
]

#: Distributions whose version is recorded, installed or not.
PACKAGES = ("numpy", "torch", "foolbox", "adversarial-robustness-toolbox")

#: Folders and files of this package that decide what comes out of defences.
DEFENSE_CODE = (
    *("arrays", "autograd", "backends", "completion", "defenses"),
    *("_core*", "_cuda*", "masks.py", "options.py"),
)

#: And what comes out of attacks on networks; this file makes the seeds.
_NETWORK_CODE = ("attacks", "models", "runs/fingerprints.py", *DEFENSE_CODE)

#: And what comes out of a training.
TRAINING_CODE = ("training", "fills", "inpainting/energy.py", *_NETWORK_CODE)

#: And what comes out of an evaluation.
CODE = ("evaluation", *_NETWORK_CODE)

#: And what comes out of a certification.
CERTIFY_CODE = ("certify", "fills", "inpainting/energy.py", *CODE)


def fingerprint(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what JSON can hold; the order of the keys does not matter."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2**63) that depends on all parts, unrelated to that of other parts."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def fingerprint_arrays(*arrays: npt.NDArray[Any]) -> str:
    """Return the SHA-256 of arrays: dtypes, shapes and values."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def fingerprint_weights(module: nn.Module) -> str:
    """Return the SHA-256 of the weights and buffers of a module, by name, on any device."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            host = value.detach().cpu().contiguous()
            digest.update(f"{host.dtype}{tuple(host.shape)}".encode())
            digest.update(host.reshape(-1).view(torch.uint8).numpy().data)
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def fingerprint_module(module: nn.Module) -> str:
    """Return the SHA-256 of a network or a defence: classes, repr and weights.

    The repr of a class of one's own should show its parameters.
    """
    kinds = [f"{type(part).__module__}.{type(part).__qualname__}" for part in module.modules()]
    return fingerprint(
        {"kinds": kinds, "repr": stable_repr(module), "weights": fingerprint_weights(module)}
    )


def stable_repr(module: nn.Module) -> str:
    """Return the repr of a module, with solver options by what differs from the defaults.

    Their own repr names the nearest preset, which a preset to come may change.

    >>> from splic_ext.defenses import SPLIC
    >>> stable_repr(SPLIC("recommended", seed=0))[:60]
    'SPLIC(options=SolverOptions(tv_weight=0.1, max_iterations=56'
    """
    text, defaults = repr(module), SolverOptions().to_dict()
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, SolverOptions):
                changed = (f"{k}={v!r}" for k, v in value.to_dict().items() if v != defaults[k])
                text = text.replace(repr(value), f"SolverOptions({', '.join(changed)})")
    return text


def fingerprint_own(module: Any) -> str:
    """Return that of :func:`fingerprint_module`, or more where code is not of this library.

    That is: the code, and the attributes of all parts, which a repr may not show. An object that is
    no module, such as a function, has code and attributes alone.

    >>> fingerprint_own(nn.Identity()) == fingerprint_module(nn.Identity())
    True
    """
    whole = fingerprint_module(module) if isinstance(module, nn.Module) else None
    source = fingerprint_source(module)
    if whole is not None and source is None:
        return whole
    parts = list(module.modules()) if isinstance(module, nn.Module) else [module]
    values = [_told(part, 4) for part in parts]
    return fingerprint({"module": whole, "source": source, "values": values})


#: What every module has, and what a defence notes of its own work: neither decides a result.
_INNER = {*vars(nn.Module()), "_token", "_text", "underived", "random"} - {"training"}


def _told(value: Any, depth: int) -> Any:
    """Return a value as what JSON can hold, without addresses: an object by its attributes."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic)):
        host = value.detach().cpu() if isinstance(value, torch.Tensor) else value
        return fingerprint_arrays(np.asarray(host))
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if depth == 0:
        return kind
    if isinstance(value, Mapping):
        return [kind, *([repr(k), _told(v, depth - 1)] for k, v in value.items())]
    if isinstance(value, (list, tuple)):
        return [kind, *(_told(item, depth - 1) for item in value)]
    if isinstance(value, (set, frozenset)):
        return [kind, *sorted(map(repr, value))]
    if inspect.isfunction(value):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        inner = [value.__defaults__, value.__kwdefaults__, *cells]
        return [value.__qualname__, *(_told(item, depth - 1) for item in inner)]
    if isinstance(value, partial):
        return [kind, *(_told(i, depth - 1) for i in (value.func, value.args, value.keywords))]
    held = getattr(value, "__dict__", {})
    told = {k: _told(v, depth - 1) for k, v in held.items() if k not in _INNER}
    return [kind, told]


def fingerprint_source(module: Any) -> str | None:
    """Return the SHA-256 of the code that is not of this package or torch; None if all is.

    Classes of parts and functions that they hold count, with the module that each is written in.
    Where Python cannot show the code, the result is another one in each call, so that nothing is
    taken for a result of it. What is no module is a function, or an object of a class.
    """
    if isinstance(module, nn.Module):
        held = [value for part in module.modules() for value in vars(part).values()]
        objects: list[Any] = [type(part) for part in module.modules()]
    else:
        held = [module, *getattr(module, "__dict__", {}).values()]
        objects = [type(module)]
    held = [value.func if isinstance(value, partial) else value for value in held]
    objects += [value for value in held if inspect.isroutine(value)]
    sources = []
    for item in dict.fromkeys(objects):
        home = str(getattr(item, "__module__", ""))
        if home.partition(".")[0] in ("splic_ext", "torch", "builtins", "functools"):
            continue
        try:
            text = inspect.getsource(item)
            file = inspect.getsourcefile(item)
            whole = Path(file).read_text(encoding="utf-8") if file and Path(file).exists() else ""
        except (OSError, TypeError):
            return secrets.token_hex(32)
        sources.append([home, text, whole])
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest() if sources else None


@cache
def code_fingerprint(patterns: tuple[str, ...] = CODE) -> str:
    """Return the SHA-256 of the code of this package that decides a result.

    Two checkouts of one version may differ in it: what other code has computed is not reused.
    """
    folder = Path(splic_ext.__file__).parent
    digest = hashlib.sha256()
    for pattern in patterns:
        places = sorted(folder.glob(pattern))
        files = [file for place in places for file in sorted(place.rglob("*.py")) or [place]]
        if not any(map(Path.is_file, files)):
            raise ValueError(
                f"`patterns` must each name code of splic_ext, got {pattern!r}, which names none; "
                "name a folder or a file of the package"
            )
        for path in files:
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def package_versions() -> dict[str, str | None]:
    """Return the versions of this package and of those that results may depend on, or None."""
    versions: dict[str, str | None] = {"splic_ext": splic_ext.__version__}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return versions
