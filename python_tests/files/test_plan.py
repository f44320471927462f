"""The plan of a run: which files, under which index, and where each result goes."""

from pathlib import Path

import pytest

pytest.importorskip("PIL", reason="the extra 'cli' is not installed")

from splic_ext.files.plan import PlanError, left_out, plan_jobs


@pytest.fixture
def tree(tmp_path):
    """Make a folder of empty files: only names matter here."""
    for name in ("in/b.png", "in/a/z.PNG", "in/a/c.npy", "in/.hidden.png", "in/.h/d.png",
                 "in/notes.txt", "in/c.JPEG"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def planned(jobs, root):
    return [
        (job.index, *(str(p.relative_to(root)) for p in (job.source, job.target))) for job in jobs
    ]


def test_a_folder_is_mirrored_in_sorted_order(tree):
    jobs = plan_jobs([str(tree / "in")], tree / "out")
    assert planned(jobs, tree) == [
        (0, "in/a/c.npy", "out/a/c.npy"),
        (1, "in/a/z.PNG", "out/a/z.PNG"),
        (2, "in/b.png", "out/b.png"),
        (3, "in/c.JPEG", "out/c.JPEG"),
    ]


def test_broken_links_and_linked_folders_are_not_left_out_in_silence(tree):
    (tree / "in" / "broken.png").symlink_to(tree / "nothing.png")
    (tree / "in" / "linked").symlink_to(tree / "in" / "a", target_is_directory=True)
    jobs = plan_jobs([str(tree / "in")], tree / "out")  # the link fails when it is read
    names = ["c.npy", "z.PNG", "b.png", "broken.png", "c.JPEG"]
    assert [job.source.name for job in jobs] == names
    jobs = plan_jobs([str(tree / "in/*.png")], tree / "out")
    assert [job.source.name for job in jobs] == ["b.png", "broken.png"]
    for name in ("a/x.gif", "a/y.GIF", "z.ico", ".hidden.gif"):
        (tree / "in" / name).touch()
    told = dict(left_out([str(tree / "in"), str(tree / "in/b.png")]))
    assert told[tree / "in" / "linked"] == "a linked folder is left out; name it as an input"
    others = "images of other formats are left out, 3 of .gif .ico: convert them"
    assert told == {tree / "in" / "linked": told[tree / "in" / "linked"], tree / "in": others}


def test_files_keep_their_names_and_the_order_of_inputs_does_not_matter(tree):
    inputs = [str(tree / "in/b.png"), str(tree / "in/a/c.npy"), str(tree / "in/notes.txt")]
    jobs = plan_jobs(inputs, tree / "out")
    assert [job.target.name for job in jobs] == ["b.png", "c.npy", "notes.txt"]
    assert plan_jobs([*reversed(inputs), inputs[0]], tree / "out") == jobs


def test_patterns(tree):
    jobs = plan_jobs([str(tree / "in/**/*")], tree / "out")
    assert [job.target.name for job in jobs] == ["b.png", "c.JPEG", "c.npy", "z.PNG"]
    with pytest.raises(PlanError, match=r"no image or array file matches .*\*\.gif"):
        plan_jobs([str(tree / "*.gif")], tree / "out")


def test_a_literal_name_is_no_pattern(tree):
    (tree / "in" / "[b].png").touch()
    (job,) = plan_jobs([str(tree / "in" / "[b].png")], tree / "out")
    assert job.source.name == "[b].png"


def test_one_output_for_two_inputs_names_both(tree):
    (tree / "other").mkdir()
    (tree / "other/b.png").touch()
    with pytest.raises(PlanError) as caught:
        plan_jobs([str(tree / "in"), str(tree / "other")], tree / "out")
    for name in ("in/b.png", "other/b.png", "out/b.png"):
        assert str(tree / name) in str(caught.value)


def test_existing_outputs(tree):
    (tree / "out").mkdir()
    (tree / "out/b.png").touch()
    with pytest.raises(PlanError, match=r"out/b\.png' exists; give `overwrite=True`"):
        plan_jobs([str(tree / "in")], tree / "out")
    assert len(plan_jobs([str(tree / "in")], tree / "out", overwrite=True)) == 4
    jobs = plan_jobs([str(tree / "in")], tree / "out", skip_existing=True)
    assert [job.index for job in jobs] == [0, 1, 3]
    with pytest.raises(PlanError, match="contradict"):
        plan_jobs([str(tree / "in")], tree / "out", overwrite=True, skip_existing=True)


def test_an_input_is_not_replaced_unasked(tree):
    with pytest.raises(PlanError, match="3 more outputs exist"):
        plan_jobs([str(tree / "in")], tree / "in")
    jobs = plan_jobs([str(tree / "in")], tree / "in", overwrite=True)
    assert all(job.source == job.target for job in jobs)


def test_an_output_is_never_the_input_of_another_file(tree):
    (tree / "x/a").mkdir(parents=True)
    (tree / "x/a/c.npy").touch()
    with pytest.raises(PlanError, match="would replace the input"):
        plan_jobs([str(tree / "x"), str(tree / "in/a/c.npy")], tree / "in", overwrite=True)


def test_the_output_folder_inside_the_input_is_left_out(tree):
    first = plan_jobs([str(tree / "in")], tree / "in/out")
    (tree / "in/out").mkdir()
    (tree / "in/out/b.png").touch()
    assert plan_jobs([str(tree / "in")], tree / "in/out", overwrite=True) == first


def test_one_file_to_one_file(tree):
    (job,) = plan_jobs([str(tree / "in/c.JPEG")], tree / "new/d.jpg")
    assert job.target == tree / "new/d.jpg"
    with pytest.raises(PlanError, match="another format"):
        plan_jobs([str(tree / "in/c.JPEG")], tree / "d.png")
    with pytest.raises(PlanError, match="expected a folder"):
        plan_jobs([str(tree / "in")], tree / "d.png")
    for name in ("d.npy", "d.npz"):
        with pytest.raises(PlanError, match="is named like a file, expected a folder"):
            plan_jobs([str(tree / "in")], tree / name)
    with pytest.raises(PlanError, match="is a file, expected a folder"):
        plan_jobs([str(tree / "in")], tree / "in/notes.txt")


def test_missing_and_empty_inputs(tree):
    with pytest.raises(PlanError, match="does not exist"):
        plan_jobs([str(tree / "nothing.png")], tree / "out")
    (tree / "empty").mkdir()
    with pytest.raises(PlanError, match=r"holds no file of \.png"):
        plan_jobs([str(tree / "empty")], tree / "out")


def test_paths_are_as_given(tree, monkeypatch):
    monkeypatch.chdir(tree)
    jobs = plan_jobs(["in"], Path("out"))
    assert str(jobs[0].target) == "out/a/c.npy"
