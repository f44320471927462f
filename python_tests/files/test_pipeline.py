"""The pipeline from files to files, without a command."""

import numpy as np
import pytest
from helpers.cli import FAST_OPTIONS, damage, files_below, save_png
from PIL import Image

from splic_ext.files.pipeline import run_jobs
from splic_ext.files.plan import plan_jobs
from splic_ext.files.settings import JobSettings


class Recorder:
    def __init__(self):
        self.expected = 0
        self.done = 0
        self.failures = []
        self.notes = []

    def expect(self, images):
        self.expected += images

    def advance(self, images):
        self.done += images

    def note(self, path, text):
        self.notes.append((path.name, text))

    def fail(self, path, reason):
        self.failures.append((path.name, reason))


def test_counts_add_up_whatever_fails(tmp_path):
    bad = damage(tmp_path / "in")
    save_png(tmp_path / "in/large.png", (3, 600))
    np.save(tmp_path / "in/x.npy", np.zeros((7, 1, 4, 4), np.float32))
    jobs = plan_jobs([str(tmp_path / "in")], tmp_path / "out")
    recorder = Recorder()
    settings = JobSettings(FAST_OPTIONS, backend="numpy", max_pixels=3000)
    assert run_jobs(jobs, settings, recorder) == len(bad)
    assert sorted(name for name, _ in recorder.failures) == sorted(bad)
    assert recorder.done == pytest.approx(5 + 1 + 7)
    assert len(jobs) + recorder.expected == pytest.approx(recorder.done)


def run(folder, **settings):
    jobs = plan_jobs([str(folder / "in")], folder / "out")
    recorder = Recorder()
    run_jobs(jobs, JobSettings(FAST_OPTIONS, backend="numpy", **settings), recorder)
    return recorder


@pytest.mark.parametrize("kind", [RuntimeError, SyntaxError, AttributeError, MemoryError])
def test_an_encoder_that_fails_in_any_way_stops_nothing(tmp_path, monkeypatch, kind):
    """Pillow raises SyntaxError, struct.error and more where it cannot store metadata."""
    for name in ("a.tif", "b.bmp", "c.tif"):  # the suffix decides on the format here
        save_png(tmp_path / "in" / name)
    save = Image.Image.save

    def fail(image, stream, format, **options):
        if format == "TIFF":
            raise kind("odd metadata")
        save(image, stream, format, **options)

    monkeypatch.setattr(Image.Image, "save", fail)
    recorder = run(tmp_path)
    assert [name for name, _ in recorder.failures] == ["a.tif", "c.tif"]
    said = "not enough memory" if kind is MemoryError else "cannot be written as TIFF: odd metadata"
    assert {reason for _, reason in recorder.failures} == {said}
    assert files_below(tmp_path / "out") == ["b.bmp"]


def test_writing_that_fails_in_any_way_stops_nothing(tmp_path, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        save_png(tmp_path / "in" / name)

    def fail(picture, completed, stream):
        raise LookupError("what was that?")

    monkeypatch.setattr("splic_ext.files.work.encode_picture", fail)
    recorder = run(tmp_path)
    assert recorder.failures == [(name, "what was that?") for name in ("a.png", "b.png", "c.png")]
    assert files_below(tmp_path / "out") == []


def test_arrays_that_look_channel_last_are_noted_without_a_warning(tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/a.npy", np.zeros((300, 6, 5, 3), np.float32))
    recorder = run(tmp_path)
    assert recorder.notes == [("a.npy", "looks channel last; if so, give `channel_axis=-1`")]
    assert recorder.failures == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"seed": -1}, ValueError),
        ({"threads": 0}, ValueError),
        ({"threads": 2**31}, ValueError),
        ({"jobs": 0}, ValueError),
        ({"quality": 0}, ValueError),
        ({"max_pixels": 0}, ValueError),
        ({"channel_axis": 1}, ValueError),
        ({"data_range": float("inf")}, ValueError),
        ({"seed": "0"}, TypeError),
    ],
)
def test_settings_are_checked(changes, error):
    (name,) = changes
    with pytest.raises(error, match=f"`{name}`"):
        JobSettings(FAST_OPTIONS, **changes)
