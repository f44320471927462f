"""Code of others is found by its place, and every failure names it."""

from __future__ import annotations

import sys

import pytest

from splic_ext.common.outside import import_object, split_place


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a.b:C", ("a.b", "C", "")),
        ("a:c:size=3,mode='x:y'", ("a", "c", "size=3,mode='x:y'")),
        (" a/b c.py:C.d : size=3", ("a/b c.py", "C.d", "size=3")),
        (r"C:\x\y.py:C:size=3", (r"C:\x\y.py", "C", "size=3")),
        ("./x.py:C", ("./x.py", "C", "")),
        ("tv", None),
        ("tv:weight=0.1", None),
        ("a/b:C", None),
        ("x.py", None),
        ("", None),
    ],
)
def test_places(text, parts):
    assert split_place(text.replace(" : ", ":")) == parts


def test_files_run_once_and_anew_when_they_change(tmp_path):
    file = tmp_path / "mine-1.py"
    (tmp_path / "beside_it.py").write_text("number = 3\n")
    file.write_text("from beside_it import number\nclass A:\n    class B: pass\n")
    paths = list(sys.path)
    first = import_object(f"{file}:A.B")
    assert first.__qualname__ == "A.B"
    assert import_object(f"{file}:A.B") is first
    assert import_object(f"{file}:number") == 3
    file.write_text("class A: pass\n")
    assert import_object(f"{file}:A") is not first
    assert sys.path == paths


def test_modules_of_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "of_the_folder.py").write_text("def make(): return 1\n")
    monkeypatch.chdir(tmp_path)
    assert import_object("of_the_folder:make")() == 1
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        ("", "x", r"place of a fill must be like .*, got 'x'; write"),
        ("", "absent_module:X", r"no module 'absent_module' for the fill in 'absent_module'; inst"),
        ("", "math.absent:X", r"no module 'math.absent' for the fill|'math' is not a package"),
        ("", "FILE:X", r"it has no names: give one of these"),
        ("import math; a = b = 1", "FILE:X", r"mine.py' has no fill 'X'; it has a, b: give one"),
        ("import absent_too", "FILE:X", r"cannot be imported: ModuleNotFoundError: No .*; mend"),
        ("1 / 0", "FILE:X", r"mine.py' of a fill cannot be imported: ZeroDivisionError: div.*; m"),
        ("x = (", "FILE:X", r"cannot be imported: SyntaxError: "),
        (None, "FILE:X", r"mine.py' of a fill cannot be read: No such file.*; give another path"),
    ],
)
def test_what_cannot_be_imported(content, place, message, tmp_path):
    file = tmp_path / "mine.py"
    if content is not None:
        file.write_text(content)
    before = set(sys.modules)
    with pytest.raises(ValueError, match=message):
        import_object(place.replace("FILE", str(file)), "fill")
    left = set(sys.modules) - before
    assert len(left) == (content in ("", "import math; a = b = 1") and "FILE" in place)


def test_no_text():
    with pytest.raises(ValueError, match="got 3; write"):
        import_object(3)
