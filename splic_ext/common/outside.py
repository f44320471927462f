"""Code of others by its place: ``package.module:Name``, or ``folder/file.py:Name``.

>>> import_object("collections:OrderedDict")
<class 'collections.OrderedDict'>
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from splic_ext.common.checks import reason_of, shortened

__all__ = ["import_object", "loaded_files", "split_place"]

_DOTTED = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
#: A path may have colons, as those of Windows do; a file of code ends in .py.
_PLACE = re.compile(rf"(?P<home>.+\.py|{_DOTTED}):(?P<name>{_DOTTED})(?::(?P<rest>.*))?", re.DOTALL)

#: What :func:`loaded_files` returns, by name.
_LOADED: dict[str, ModuleType] = {}


def split_place(text: str) -> tuple[str, str, str] | None:
    """Return module or file, name, and what follows a second colon; None if it is no place.

    ``splic:recommended`` has the form of a place, too: who knows the names decides.

    >>> split_place("mine/filters.py:Median:size=3")
    ('mine/filters.py', 'Median', 'size=3')
    >>> split_place("filters.mine:Median")
    ('filters.mine', 'Median', '')
    >>> split_place("tv:weight=0.1") is None
    True
    """
    found = _PLACE.fullmatch(text.strip())
    return None if found is None else (found["home"], found["name"], (found["rest"] or "").strip())


def import_object(place: str, what: str = "object") -> Any:
    """Import what stands at a place. This runs the code of its module or file.

    Parameters
    ----------
    place : str
        ``package.module:Name`` of a module that is installed or lies in the working folder, or
        ``folder/file.py:Name``. A name may have dots.
    what : str
        What it is meant to be, for errors.

    Returns
    -------
    object
        The class or function itself. A file is run once, and anew when its content has changed.

    Raises
    ------
    ValueError
        No place; no such module, file or name; or the code raises an error, which is the cause.

    Examples
    --------
    >>> import_object("math:sqrt")(9.0)
    3.0
    """
    found = split_place(place) if isinstance(place, str) else None
    if found is None:
        raise ValueError(
            f"the place of a {what} must be like 'package.module:Name' or 'folder/file.py:Name', "
            f"got {shortened(repr(place))}; write it so"
        )
    home, name, _ = found
    value: Any = _load_file(home, what) if home.endswith(".py") else _load_module(home, what)
    for part in name.split("."):
        if not hasattr(value, part):
            own = getattr(value, "__dict__", {}).items()
            known = [k for k, v in own if k[0] != "_" and not isinstance(v, ModuleType)]
            raise ValueError(
                f"'{home}' has no {what} {name!r}; it has "
                f"{shortened(', '.join(sorted(known)), 200) or 'no names'}: give one of these"
            )
        value = getattr(value, part)
    return value


def loaded_files() -> list[ModuleType]:
    """Return the modules that were made of files, which no other process can import by name."""
    return list(_LOADED.values())


def _load_module(name: str, what: str) -> ModuleType:
    """Import a module, from the working folder too."""
    folder = str(Path.cwd())
    sys.path.append(folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ValueError(
                f"there is no module {error.name!r} for the {what} in '{name}'; install it, go to "
                "its folder, or give its file: 'folder/file.py:Name'"
            ) from None
        raise _failed(name, what, error) from error
    except Exception as error:  # of any type: it is the code of others
        raise _failed(name, what, error) from error
    finally:
        sys.path.remove(folder)


def _load_file(text: str, what: str) -> ModuleType:
    """Run a file of code as a module of its own, once for each content."""
    path = Path(text).expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"the file '{text}' of a {what} cannot be read: {error.strerror}; give another path"
        ) from error
    place = path.resolve()
    key = hashlib.sha256(f"{place}".encode() + content).hexdigest()[:16]
    name = f"{re.sub(r'[^0-9A-Za-z_]', '_', place.stem)}_{key}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None  # as the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look there
    sys.path.insert(0, str(place.parent))  # its neighbours
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # of any type: it is the code of others
        del sys.modules[name]
        raise _failed(text, what, error) from error
    finally:
        sys.path.remove(str(place.parent))
    _LOADED[name] = module
    return module


def _failed(home: str, what: str, error: Exception) -> ValueError:
    """Return the error for code that raises one."""
    return ValueError(
        f"'{home}' of a {what} cannot be imported: {type(error).__name__}: {reason_of(error)}; "
        "mend it, or try `python -c` on it"
    )
