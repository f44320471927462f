"""The pipeline from files to files, without a command."""

import numpy as np
import pytest
from cli_tools import FAST_OPTIONS, damage, save_png

from splic_ext.filejobs import JobSettings, run_jobs
from splic_ext.fileplan import plan_jobs


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


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"seed": -1}, ValueError),
        ({"threads": 0}, ValueError),
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
