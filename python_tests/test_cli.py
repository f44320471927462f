"""The command ``splic-ext``: in this process for most, as a process of its own for some."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the extra 'cli' is not installed")
pytest.importorskip("rich", reason="the extra 'cli' is not installed")
pytest.importorskip("typer", reason="the extra 'cli' is not installed")

from PIL import Image
from typer.testing import CliRunner

import splic_ext
from splic_ext import demo as demonstration
from splic_ext.cliflags import option_help, resolve_options
from splic_ext.commands import app
from splic_ext.filejobs import JobSettings, run_jobs
from splic_ext.fileplan import plan_jobs

RNG = np.random.default_rng(11)
FAST = ("--preset", "paper", "--max-iterations", "2", "--backend", "numpy")
FAST_OPTIONS = splic_ext.SolverOptions(max_iterations=2)


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def complete_files(*arguments, code=0):
    result = invoke("complete", *arguments, *FAST)
    assert result.exit_code == code, result.output
    return result.output


def command(*arguments):
    return [sys.executable, "-m", "splic_ext.cli", *map(str, arguments)]


def run_command(*arguments, **options):
    return subprocess.run(command(*arguments), capture_output=True, text=True, **options)


def expected(array, index=0, **options):
    options = {"options": FAST_OPTIONS, "backend": "numpy", **options}
    return splic_ext.complete(array, first_index=index, **options)


def save_png(path, shape=(8, 10, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    mode = {2: "L", 3: "RGB"}[len(shape)]
    Image.frombytes(mode, shape[1::-1], pixels.tobytes()).save(path)
    return pixels


def load(path):
    with Image.open(path) as image:
        return np.asarray(image)


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Results


def test_each_file_has_the_mask_of_its_number(tmp_path):
    shapes = [(8, 10, 3)] * 3 + [(9, 9)] + [(8, 10, 3)] * 2
    sources = [save_png(tmp_path / f"in/{i}.png", shape) for i, shape in enumerate(shapes)]
    output = complete_files(tmp_path / "in", "-o", tmp_path / "out")
    assert "completed 6 images" in output
    for i, pixels in enumerate(sources):
        result = load(tmp_path / f"out/{i}.png")
        axis = -1 if pixels.ndim == 3 else -3
        np.testing.assert_array_equal(result, expected(pixels, i, channel_axis=axis))


@pytest.mark.parametrize("arguments", [("--jobs", 1), ("--threads", 1), ("--threads", 5)])
def test_results_depend_neither_on_threads_nor_on_neighbours(tmp_path, arguments):
    for i in range(10):
        save_png(tmp_path / f"in/{i}.png")
    complete_files(tmp_path / "in", "-o", tmp_path / "all")
    complete_files(tmp_path / "in", "-o", tmp_path / "again", *arguments)
    (tmp_path / "all/0.png").rename(tmp_path / "kept.png")
    (tmp_path / "all/5.png").rename(tmp_path / "also.png")
    complete_files(tmp_path / "in", "-o", tmp_path / "all", "--skip-existing")
    assert (tmp_path / "all/0.png").read_bytes() == (tmp_path / "kept.png").read_bytes()
    assert (tmp_path / "all/5.png").read_bytes() == (tmp_path / "also.png").read_bytes()
    for i in range(10):
        first, second = (tmp_path / f"{name}/{i}.png" for name in ("all", "again"))
        assert first.read_bytes() == second.read_bytes()


def test_many_images_go_in_few_calls(tmp_path, monkeypatch):
    for i in range(300):
        save_png(tmp_path / f"in/{i:03}.png", (4, 4))
    calls = []

    def counting(batch, **arguments):
        calls.append((len(batch), arguments["first_index"]))
        return batch

    monkeypatch.setattr("splic_ext.filejobs.complete", counting)
    complete_files(tmp_path / "in", "-o", tmp_path / "out")
    assert sorted(calls) == [(44, 256), (256, 0)]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_gray(tmp_path, suffix):
    values = RNG.integers(0, 65536, (9, 8), dtype=np.uint16)
    Image.frombytes("I;16", (8, 9), values.astype("<u2").tobytes()).save(tmp_path / f"a.{suffix}")
    complete_files(tmp_path / f"a.{suffix}", "-o", tmp_path / "out", "--data-range", "7")
    unit = expected((values / np.float32(65535)).astype(np.float32))
    result = load(tmp_path / f"out/a.{suffix}")
    assert result.max() > 255
    if suffix == "png":
        assert (tmp_path / "out/a.png").read_bytes()[24] == 16  # bit depth
    np.testing.assert_array_equal(result, np.rint(unit.astype(float) * 65535))


def test_float_tiff_takes_the_data_range(tmp_path):
    values = (RNG.random((6, 7)) * 40).astype(np.float32)
    Image.frombytes("F", (7, 6), values.tobytes()).save(tmp_path / "a.tif")
    output = complete_files(tmp_path / "a.tif", "-o", tmp_path / "out", code=1)
    assert "rescale it or pass the right `data_range=`" in output
    complete_files(tmp_path / "a.tif", "-o", tmp_path / "out", "--data-range", "40")
    np.testing.assert_array_equal(load(tmp_path / "out/a.tif"), expected(values, data_range=40))


def test_alpha_is_untouched(tmp_path):
    pixels = RNG.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    Image.frombytes("RGBA", (8, 8), pixels.tobytes()).save(tmp_path / "a.png")
    complete_files(tmp_path / "a.png", "-o", tmp_path / "out")
    result = load(tmp_path / "out/a.png")
    np.testing.assert_array_equal(result[..., 3], pixels[..., 3])
    colours = np.ascontiguousarray(pixels[..., :3])
    np.testing.assert_array_equal(result[..., :3], expected(colours, channel_axis=-1))


def test_a_large_image_goes_tile_by_tile(tmp_path):
    pixels = save_png(tmp_path / "a.png", (3, 1030))
    complete_files(tmp_path / "a.png", "-o", tmp_path / "out")
    result = load(tmp_path / "out/a.png")
    for spans, index in (((0, 344), 0), ((344, 687), 1), ((687, 1030), 2)):
        np.testing.assert_array_equal(
            result[:, slice(*spans)], expected(pixels[:, slice(*spans)], index)
        )
    output = complete_files(tmp_path / "a.png", "-o", tmp_path / "out2", "--rank", "9", code=1)
    assert "`rank` must be at most" in output
    assert "completed 0 images" in output


@pytest.mark.parametrize(("arguments", "axis"), [((), -3), (("--channel-axis", "-1"), -1)])
def test_arrays(tmp_path, arguments, axis):
    shape = (3, 2, 8, 9) if axis == -3 else (3, 8, 9, 2)
    array = RNG.random(shape, dtype=np.float32)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", images=array * 3, labels=np.arange(3))
    common = (*arguments, "--data-range", "3")
    output = complete_files(tmp_path / "a.npy", tmp_path / "b.npz", "-o", tmp_path, "--overwrite",
                            *common)  # fmt: skip
    assert "completed 6 images" in output
    options = {"channel_axis": axis, "data_range": 3}
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected(array, 0, **options))
    with np.load(tmp_path / "b.npz") as result:
        np.testing.assert_array_equal(result["images"], expected(array * 3, 1, **options))
        np.testing.assert_array_equal(result["labels"], np.arange(3))


def test_seed(tmp_path):
    pixels = save_png(tmp_path / "a.png", (8, 8))
    complete_files(tmp_path / "a.png", "-o", tmp_path / "out", "--seed", 2**64 - 1)
    np.testing.assert_array_equal(load(tmp_path / "out/a.png"), expected(pixels, seed=2**64 - 1))


def test_jpeg_quality(tmp_path):
    Image.effect_noise((64, 64), 80).save(tmp_path / "a.jpg")
    for quality in (30, 95):
        complete_files(tmp_path / "a.jpg", "-o", tmp_path / str(quality), "--quality", quality)
    complete_files(tmp_path / "a.jpg", "-o", tmp_path / "default")
    assert (tmp_path / "30/a.jpg").stat().st_size < (tmp_path / "95/a.jpg").stat().st_size
    assert (tmp_path / "default/a.jpg").read_bytes() == (tmp_path / "95/a.jpg").read_bytes()


# Options


@pytest.fixture
def seen(monkeypatch):
    """Catch the options that reach the solver."""
    caught = []

    def spy(batch, **arguments):
        caught.append(arguments)
        return batch

    monkeypatch.setattr("splic_ext.filejobs.complete", spy)
    return caught


ALL_FLAGS = {
    "rank": 3, "tv_weight": 0.25, "delta_decay": 0.75, "step_size": 0.125, "inner_iterations": 5,
    "max_iterations": 9, "tolerance": 0.5, "anchor_fraction": 0.25, "alternate": False,
    "n_masks": 2, "channels": "separate", "gradient_step": "literal", "tv_gradient": "forward",
}  # fmt: skip


def test_every_option_has_a_flag(tmp_path, seen):
    save_png(tmp_path / "a.png")
    flags = []
    for name, value in ALL_FLAGS.items():
        dashed = name.replace("_", "-")
        flags += [f"--no-{dashed}"] if value is False else [f"--{dashed}", value]
    result = invoke("complete", tmp_path / "a.png", "-o", tmp_path / "out", *flags)
    assert result.exit_code == 0, result.output
    changed = splic_ext.SolverOptions.preset("recommended").replace(**ALL_FLAGS)
    assert seen[0]["options"] == changed


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), splic_ext.SolverOptions.preset("recommended")),
        (("--preset", "paper"), splic_ext.SolverOptions()),
        (("--preset", "paper", "--rank", "2"), splic_ext.SolverOptions(rank=2)),
        (
            ("--preset", "recommended", "--tv-weight", "0.5"),
            splic_ext.SolverOptions.preset("recommended").replace(tv_weight=0.5),
        ),
        (("--options", "o.json"), splic_ext.SolverOptions(delta_decay=0.5, n_masks=3)),
        (("--options", "o.json", "--n-masks", "1"), splic_ext.SolverOptions(delta_decay=0.5)),
    ],
)
def test_presets_files_and_flags(tmp_path, seen, monkeypatch, arguments, options):
    monkeypatch.chdir(tmp_path)
    save_png(tmp_path / "a.png")
    (tmp_path / "o.json").write_text(json.dumps({"delta_decay": 0.5, "n_masks": 3}))
    result = invoke("complete", "a.png", "-o", "out", *arguments)
    assert result.exit_code == 0, result.output
    assert seen[0]["options"] == options


def test_options_round_trip(tmp_path):
    options = splic_ext.SolverOptions.preset("recommended").replace(rank=7)
    (tmp_path / "o.json").write_text(options.to_json())
    assert resolve_options(None, tmp_path / "o.json", {}) == options


def test_help_explains_every_option():
    texts = option_help()
    assert list(texts) == list(splic_ext.SolverOptions().to_dict())
    for text in texts.values():
        assert len(text) > 20
        assert not set("`\\") & set(text)
    output = CliRunner().invoke(app, ["complete", "--help"], env={"COLUMNS": "250"}).output
    for words in ("--tv-weight", "--no-alternate", "stacked|separate", "default: 0.45"):
        assert words in output
    for words in ("[paper: 0.02, recommended: ", "first_index", "tile by tile"):
        assert words in output


# Usage errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "best"), "preset name must be 'paper' or 'recommended', got 'best'"),
        (("--rank", "0"), "`rank` must be an integer in [1, 512], got 0"),
        (("--tv-weight", "nan"), "`tv_weight` must be finite"),
        (("--channels", "mixed"), "`channels` must be 'stacked' or 'separate', got 'mixed'"),
        (("--backend", "gpu"), "`backend` must be one of"),
        (("--channel-axis", "2"), "`channel_axis` must be -3 (channel first) or -1"),
        (("--data-range", "0"), "`data_range` must be finite and > 0"),
        (("--overwrite", "--skip-existing"), "contradict"),
        (("--options", "none.json"), "'none.json' cannot be read: No such file"),
        (("--options", "bad.json"), "is no JSON"),
        (("--options", "unknown.json"), "unknown solver option 'lambda'"),
        (("--options", "bad.json", "--preset", "paper"), "contradict"),
        (("missing.png",), "the input 'missing.png' does not exist"),
        (("*.gif",), "no image or array file matches the pattern '*.gif'"),
        (("--quality", "101"), "--quality"),
        (("--seed", "-1"), "--seed"),
        (("--jobs", "0"), "--jobs"),
        (("--unknown",), "--unknown"),
    ],
)
def test_wrong_usage_ends_with_2_before_anything_runs(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    save_png(tmp_path / "a.png")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "unknown.json").write_text('{"lambda": 1}')
    result = invoke("complete", "a.png", "-o", "out", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert not (tmp_path / "out").exists()


def test_no_input_and_no_output(tmp_path):
    assert invoke("complete", "-o", tmp_path).exit_code == 2
    assert invoke("complete", tmp_path).exit_code == 2


def test_a_collision_names_both_and_runs_nothing(tmp_path):
    save_png(tmp_path / "a/x.png")
    save_png(tmp_path / "b/x.png")
    output = complete_files(tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", code=2)
    assert str(tmp_path / "a/x.png") in output
    assert str(tmp_path / "b/x.png") in output
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unasked(tmp_path):
    pixels = save_png(tmp_path / "in/a.png", (8, 8))
    for out in ("out", "in"):
        if out == "out":
            complete_files(tmp_path / "in", "-o", tmp_path / "out")
        before = (tmp_path / out / "a.png").read_bytes()
        output = complete_files(tmp_path / "in", "-o", tmp_path / out, "--seed", "1", code=2)
        assert "--overwrite" in output
        assert (tmp_path / out / "a.png").read_bytes() == before
        complete_files(tmp_path / "in", "-o", tmp_path / out, "--seed", "1", "--overwrite")
        np.testing.assert_array_equal(load(tmp_path / out / "a.png"), expected(pixels, seed=1))


def test_an_absent_back_end_ends_with_1(tmp_path, monkeypatch):
    save_png(tmp_path / "a.png")
    monkeypatch.setattr("splic_ext.backends.cpu._core", None)
    result = invoke("complete", tmp_path / "a.png", "-o", tmp_path / "out", "--backend", "cpu")
    assert result.exit_code == 1
    assert "back end 'cpu' cannot run here" in result.output


# Inputs


def test_patterns_are_expanded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("1.png", "2.png", "3.bmp"):
        save_png(tmp_path / name)
    complete_files("*.png", "-o", "out")
    assert files_below(tmp_path / "out") == ["1.png", "2.png"]


def test_one_file_to_one_file(tmp_path):
    pixels = save_png(tmp_path / "a.png", (8, 8))
    complete_files(tmp_path / "a.png", "-o", tmp_path / "b.png")
    np.testing.assert_array_equal(load(tmp_path / "b.png"), expected(pixels))


@pytest.mark.skipif(os.name == "nt", reason="names of files are text there")
def test_names_that_are_no_text(tmp_path):
    folder = os.fsencode(tmp_path) + b"/in"
    os.mkdir(folder)  # noqa: PTH102 - bytes
    with open(folder + b"/\xff.png", "wb") as stream:  # noqa: PTH123 - bytes
        stream.write(b"no image")
    result = run_command("complete", tmp_path / "in", "-o", tmp_path / "out", *FAST)
    assert result.returncode == 1
    assert "\\udcff.png: not a PNG" in result.stderr


# Failures


def damage(folder):
    """Make a folder of good and bad files; return the names of the bad ones with the reason."""
    for i in (0, 2, 4, 6, 8):
        save_png(folder / f"{i}.png")
    save_png(folder / "1.png")
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:-60])
    (folder / "3.png").write_text("This is text.")
    save_png(folder / "5.png", (60, 60))
    np.save(folder / "7.npy", np.full((4, 4), np.nan))
    (folder / "9.npz").write_bytes(b"no archive")
    return {
        "1.png": "decoded",
        "3.png": "not a PNG",
        "5.png": "60 x 60 = 3,600 pixels are more than the limit of 3,000",
        "7.npy": "finite",
        "9.npz": "zip",
    }


def test_bad_files_are_named_and_the_others_go_on(tmp_path):
    bad = damage(tmp_path / "in")
    output = complete_files(
        tmp_path / "in", "-o", tmp_path / "out", "--max-pixels", "3000", "--quiet", code=1
    )
    lines = output.splitlines()
    assert len(lines) == len(bad)
    for name, reason in bad.items():
        (line,) = (line for line in lines if f"{tmp_path / 'in' / name}: " in line)
        assert reason in line
    assert files_below(tmp_path / "out") == ["0.png", "2.png", "4.png", "6.png", "8.png"]
    for i in (2, 8):
        source = load(tmp_path / f"in/{i}.png")
        np.testing.assert_array_equal(
            load(tmp_path / f"out/{i}.png"), expected(source, i, channel_axis=-1)
        )


def test_an_unknown_suffix_is_a_failure_of_that_file(tmp_path):
    save_png(tmp_path / "a.png")
    (tmp_path / "b.txt").write_text("text")
    output = complete_files(tmp_path / "a.png", tmp_path / "b.txt", "-o", tmp_path / "out", code=1)
    assert "b.txt: unknown suffix '.txt'" in output
    assert "completed 1 image in" in output
    assert "1 file failed" in output


def test_one_bad_image_does_not_spoil_its_batch(tmp_path):
    for i in range(4):
        values = np.full((4, 4), np.nan if i == 2 else 0.5, np.float32)
        Image.frombytes("F", (4, 4), values.tobytes()).save(tmp_path / f"{i}.tif")
    output = complete_files(tmp_path / "*.tif", "-o", tmp_path / "out", code=1)
    assert "2.tif: `batch` must be finite" in output
    assert files_below(tmp_path / "out") == ["0.tif", "1.tif", "3.tif"]


def test_an_output_that_cannot_be_written(tmp_path):
    save_png(tmp_path / "in/a/x.png")
    save_png(tmp_path / "in/b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("a file, not a folder")
    output = complete_files(tmp_path / "in", "-o", tmp_path / "out", code=1)
    assert "x.png: " in output
    assert files_below(tmp_path / "out") == ["a", "b.png"]


def test_a_failing_write_leaves_nothing(tmp_path, monkeypatch):
    save_png(tmp_path / "a.png")

    def fail(picture, completed, stream):
        stream.write(b"half of a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("splic_ext.filejobs.encode_picture", fail)
    output = complete_files(tmp_path / "a.png", "-o", tmp_path / "out", code=1)
    assert "a.png: No space left on device" in output
    assert files_below(tmp_path / "out") == []


# Processes of their own


def test_streams_and_quiet(tmp_path):
    save_png(tmp_path / "in/a.png")
    loud = run_command("complete", tmp_path / "in", "-o", tmp_path / "1", *FAST)
    assert (loud.returncode, loud.stdout) == (0, "")
    assert len(loud.stderr.splitlines()) == 1  # the summary; no bar without a terminal
    quiet = run_command("complete", tmp_path / "in", "-o", tmp_path / "2", "-q", *FAST)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals there")
def test_a_terminal_gets_a_progress_bar(tmp_path):
    save_png(tmp_path / "in/a.png")
    (tmp_path / "in/b.png").write_text("text")
    leader, follower = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    environment.pop("NO_COLOR", None)
    try:
        arguments = command("complete", tmp_path / "in", "-o", tmp_path / "out", *FAST)
        code = subprocess.run(arguments, stderr=follower, env=environment).returncode
        text = os.read(leader, 1 << 16).decode()
    finally:
        os.close(leader)
        os.close(follower)
    assert code == 1
    assert "images/s" in text
    assert "in/b.png: not a PNG" in text


def start_long_run(tmp_path):
    """Start a run whose first file is done soon and whose second takes minutes."""
    save_png(tmp_path / "in/a.png")
    np.save(tmp_path / "in/b.npy", RNG.random((4000, 3, 64, 64), dtype=np.float32))
    arguments = command("complete", tmp_path / "in", "-o", tmp_path / "out", "--backend", "numpy")
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path).glob("out/.splic-*.tmp")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.2)
    return process


@pytest.mark.skipif(os.name == "nt", reason="no such signals there")
def test_ctrl_c_ends_cleanly(tmp_path):
    process = start_long_run(tmp_path)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (output, errors) == ("", "interrupted; files that are there are complete\n")
    assert not list((tmp_path / "out").glob("*.npy"))
    assert not list((tmp_path / "out").glob(".splic-*"))


@pytest.mark.skipif(os.name == "nt", reason="no such signals there")
def test_a_killed_run_leaves_finished_files_only(tmp_path):
    process = start_long_run(tmp_path)
    process.kill()
    process.communicate(timeout=60)
    for path in (tmp_path / "out").iterdir():
        assert path.name.startswith(".splic-") or load(path).shape == (8, 10, 3)
    assert not (tmp_path / "out/b.npy").exists()


@pytest.mark.parametrize(
    ("module", "package"), [("typer", "typer"), ("rich", "rich"), ("PIL", "pillow")]
)
def test_a_missing_extra_is_named(module, package):
    code = f"import sys; sys.modules[{module!r}] = None; from splic_ext.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"error: `splic-ext` needs the package {package!r}, which is not installed; "
        'install it with `pip install "splic-ext[cli]"`\n'
    )


def test_importing_the_package_imports_nothing_of_this():
    code = (
        "import sys, splic_ext, splic_ext.cli; "
        "print([name for name in ('typer', 'rich', 'PIL', 'skimage', 'scipy', 'torch') "
        "if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "[]\n")


# The pipeline without a command


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


# info and demo


def test_info_json():
    result = invoke("info", "--json")
    assert result.exit_code == 0, result.output
    info = json.loads(result.output)
    assert info["version"] == splic_ext.__version__
    assert info["numpy"] == np.__version__
    assert info["python"] == ".".join(map(str, sys.version_info[:3]))
    assert info["default_threads"] >= 1
    backends = splic_ext.backend_info()
    assert list(info["backends"]) == list(backends)
    for name, backend in info["backends"].items():
        assert backend["available"] == backends[name].available
        assert backend["reason"] == backends[name].reason
        assert set(backend["details"]) == set(backends[name].details)
    assert info["packages"]["pillow"] is not None
    assert info["cpu_features"] is None or isinstance(info["cpu_features"], list)


def test_info_gives_the_reason_of_an_absent_back_end(monkeypatch):
    monkeypatch.setattr("splic_ext.backends.cpu._core", None)
    monkeypatch.setattr("splic_ext.backends.cpu._REASON", "the module [x] was not built")
    result = CliRunner().invoke(app, ["info"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for words in (splic_ext.__version__, "numpy", "the module [x] was not built", "CPU features"):
        assert words in result.output


def test_info_with_a_bad_environment(monkeypatch):
    monkeypatch.setenv("SPLIC_NUM_THREADS", "many")
    result = invoke("info")
    assert result.exit_code == 2
    assert "SPLIC_NUM_THREADS must be a positive integer" in result.output


def test_version_and_help():
    assert invoke("--version").output == f"splic-ext {splic_ext.__version__}\n"
    output = invoke("--help").output
    for name in ("complete", "info", "demo"):
        assert name in output


def test_demo(tmp_path, monkeypatch):
    pytest.importorskip("skimage", reason="the extra 'demo' is not installed")
    monkeypatch.setattr(demonstration, "MAX_CROPS", 4)
    arguments = ("demo", "-o", tmp_path / "d.png", "--size", "32", *FAST)
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    for words in ("astronaut", "rocket", "mean", "images/s", "PSNR"):
        assert words in result.output
    sheet = load(tmp_path / "d.png")
    assert sheet.shape[2] == 3
    photos = demonstration.load_photos(32)
    corner = np.rint(photos[0] * 255).astype(np.uint8)
    np.testing.assert_array_equal(sheet[28 : 28 + 32, 8 : 8 + 32], corner)
    again = invoke(*arguments)
    assert again.exit_code == 1
    assert "--overwrite" in again.output
    assert invoke(*arguments, "--overwrite").exit_code == 0


def test_demo_scores(monkeypatch):
    pytest.importorskip("skimage", reason="the extra 'demo' is not installed")
    monkeypatch.setattr(demonstration, "MAX_CROPS", 4)
    result = demonstration.run_demo(FAST_OPTIONS, size=32, sigma=0.1, backend="numpy")
    photos = demonstration.load_photos(32)
    assert photos.shape == (4, 32, 32, 3)
    assert 0 <= photos.min() < photos.max() <= 1
    for row in (*result.rows, result.mean()):
        assert 18 < row.scores[0].psnr < 24  # noise of sigma 0.1 is 20 dB, less what is clipped
        assert all(0 < score.ssim < 1 for score in row.scores)
    completed = splic_ext.complete(
        photos[1], first_index=1, options=FAST_OPTIONS, backend="numpy", channel_axis=-1
    )
    psnr = -10 * np.log10(np.mean((completed - photos[1]) ** 2))
    assert result.rows[1].scores[2].psnr == pytest.approx(psnr, rel=1e-5)
    assert result.batch == 4
    assert result.speed > 0


def test_demo_without_scikit_image(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    result = invoke("demo", "-o", tmp_path / "d.png", "--size", "32", *FAST)
    assert result.exit_code == 1
    assert 'pip install "splic-ext[demo]"' in result.output
    assert files_below(tmp_path) == []


def test_demo_refuses_other_formats(tmp_path):
    result = invoke("demo", "-o", tmp_path / "d.txt", *FAST)
    assert result.exit_code == 2
    assert "must have a suffix of .png" in result.output
