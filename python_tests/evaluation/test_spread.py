"""Evaluations spread over workers, without Ray: what is split, sent, merged, kept and refused."""

from __future__ import annotations

import pickle
import sys
import threading
import types

import numpy as np
import pytest
from helpers.evaluation import Step, make_dataset, make_network, run, timeless, torch

from splic_ext.data import Dataset
from splic_ext.errors import AttackError, MissingExtraError
from splic_ext.evaluation import remote, runner
from splic_ext.evaluation.spread import Spread
from splic_ext.runs.progress import Progress
from splic_ext.runs.store import PartStore


class RayError(Exception):
    """As Ray's."""


class Ray(types.ModuleType):
    """Runs the tasks of a driver in this process, the last one first."""

    def __init__(self):
        super().__init__("ray")
        self.exceptions = types.SimpleNamespace(RayError=RayError)
        self.cpus, self.asked, self.jobs, self.most = 2, [], [], 0
        self.calls = []
        self.cancelled, self.failing, self.stop_after = [], False, None

    def is_initialized(self):
        return True

    def nodes(self):
        dead = {"Alive": False, "Resources": {"CPU": 99.0}}
        return [dead, *({"Alive": True, "Resources": {"CPU": 1.0}} for _ in range(self.cpus))]

    def put(self, value):
        return ("box", value)

    def remote(self, **options):
        self.asked.append(options)

        def task(function):
            def submit(*arguments):
                self.jobs.append(pickle.loads(arguments[-1]))
                self.calls.append((function, arguments))
                return len(self.calls) - 1

            return types.SimpleNamespace(remote=submit)

        return task

    def wait(self, references, num_returns):
        self.most = max(self.most, len(references))
        if self.stop_after is not None and len(self.jobs) > self.stop_after:
            raise KeyboardInterrupt
        return references[-1:], references[:-1]

    def get(self, reference):
        if isinstance(reference, tuple):
            return reference[1]
        if self.failing:
            raise RayError("the worker died")
        function, arguments = self.calls[reference]
        return function(*arguments)

    def cancel(self, reference, force):
        self.cancelled.append(reference)


class Pickler(types.ModuleType):
    """The part of `ray.cloudpickle` that is used."""

    def __init__(self):
        super().__init__("ray.cloudpickle")
        self.dumps, self.by_value = pickle.dumps, []

    def register_pickle_by_value(self, module):
        self.by_value.append(module.__name__)

    def unregister_pickle_by_value(self, module):
        assert module.__name__ in self.by_value


@pytest.fixture
def ray(monkeypatch):
    made, threads = Ray(), torch.get_num_threads()
    made.cloudpickle = Pickler()
    monkeypatch.setitem(sys.modules, "ray", made)
    monkeypatch.setitem(sys.modules, "ray.cloudpickle", made.cloudpickle)
    monkeypatch.setenv("SPLIC_NUM_THREADS", "1")
    torch.set_num_threads(1)
    yield made
    torch.set_num_threads(threads)
    remote._PLANS.clear()


def spread(**changes):
    return run(engine="ray", **changes)


@pytest.mark.parametrize("scenario", ["gray", "white"])
def test_records_are_those_of_a_local_run(ray, scenario):
    attacks = {"step": Step(), "two": Step()}
    expected = run(scenario=scenario, attacks=attacks)
    assert timeless(spread(scenario=scenario, attacks=attacks)) == timeless(expected)
    split = 1 if scenario == "gray" else 2
    assert len(ray.jobs) == 3 + 2 * 3 * split
    assert [len(job.clean) for job in ray.jobs[:3]] == [10, 10, 3]
    assert ray.most == 2, "a task for each processor of the nodes that live"


def test_what_is_asked_of_a_cluster(ray):
    spread(workers=5, threads=2)
    assert ray.most == 5
    (asked,) = ray.asked
    assert (asked["num_cpus"], asked["num_gpus"], asked["max_retries"]) == (2, 0.0, 10)
    plans = [plan.data for plan in remote._PLANS.values()]
    assert [len(data) for data in plans] == [1], "images come with their batch"


SEEN = []


def look(model, images, labels):
    """Attack nothing, but note how images lie in memory."""
    SEEN.append((images.shape, images.stride()))
    return images


def test_layout_of_the_images_in_memory_goes_along(ray):
    data = make_dataset()
    last = np.ascontiguousarray(data.images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    other = Dataset(data.name, last, data.labels, data.classes)
    SEEN.clear()
    for engine in ("local", "ray"):
        run(dataset=other, attacks={"look": look}, engine=engine)
    assert len(SEEN) == 6
    assert sorted(SEEN[:3]) == sorted(SEEN[3:])


def test_parts_are_kept_and_taken_up(ray, tmp_path):
    ray.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        spread(output=tmp_path)
    assert ray.cancelled
    finished = len(list((tmp_path / "parts").iterdir()))
    assert finished
    ray.stop_after, ray.jobs = None, []
    report = spread(output=tmp_path)
    assert 0 < len(ray.jobs) < 6
    assert timeless(report) == timeless(run())
    ray.jobs = []
    for engine in ("ray", "local"):
        again = run(output=tmp_path, engine=engine)
        assert timeless(again) == timeless(report)
        assert again.seconds.attack == again.seconds.defense == again.seconds.network == 0
    assert not ray.jobs


def test_adversarial_images_that_are_there_are_sent_along(ray, tmp_path, monkeypatch):
    run(output=tmp_path)
    Step.calls.clear()
    more = {"defenses": ["identity", "tv"], "draws": 2, "overwrite": True}
    report = spread(output=tmp_path, **more)
    assert not Step.calls
    assert all(job.found for job in ray.jobs)
    assert timeless(report) == timeless(run(**more))


def test_without_a_folder_no_part_comes_back(ray, monkeypatch):
    monkeypatch.setattr(PartStore, "put", lambda *_: pytest.fail("a part"))
    spread()
    assert not any(job.kept for job in ray.jobs)


def test_progress_counts_all_work(ray, monkeypatch):
    made = []

    def progress_of(plan, shown):
        made.append(Progress(plan))
        return made[-1]

    monkeypatch.setattr(runner, "progress_of", progress_of)
    for engine in ("local", "ray"):
        run(engine=engine, scenario="white")
    assert made[0].counts == made[1].counts == made[0].plan


def fail(model, images, labels):
    raise AttackError("no gradient here", "identity", None)


def test_an_error_is_raised_here(ray):
    with pytest.raises(AttackError, match="no gradient here") as caught:
        spread(attacks={"fail": fail})
    assert caught.value.defense == "identity"


class Odd(Exception):  # noqa: N818
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def test_an_error_that_cannot_be_pickled_is_told():
    found = remote._portable(Odd(1, 2))
    assert type(found) is RuntimeError
    assert str(found) == "Odd: 1 and 2"
    known = AttackError("none", "usvt", "exact")
    assert remote._portable(known) is known


def test_a_worker_that_dies_for_good(ray):
    ray.failing = True
    with pytest.raises(RuntimeError, match=r"no worker of Ray could evaluate images \d+ to \d+"):
        spread()


def test_nodes_of_other_versions(ray, monkeypatch):
    monkeypatch.setattr(remote, "code_fingerprint", lambda: "other")
    with pytest.raises(RuntimeError, match=r"must have the code of splic_ext .* got others"):
        spread()


class Locked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.lock = make_network(), threading.Lock()

    def forward(self, images):
        return self.inner(images)


def test_what_cannot_be_pickled(ray):
    with pytest.raises(TypeError, match=r"`model` must be .* pickled .* Locked"):
        spread(model=Locked().eval())
    with pytest.raises(TypeError, match=r"`attacks` must be .* pickled .* FunctionAttack"):
        spread(attacks={"inner": lambda model, images, labels: images})
    assert not ray.jobs


def test_a_cluster_without_room(ray):
    with pytest.raises(ValueError, match="a node must have the 2 `threads` and 0 `gpus`"):
        spread(threads=2)
    with pytest.raises(ValueError, match=r"a node must have the 1 `threads` and 0\.5 `gpus`"):
        spread(gpus=0.5)


def test_networks_elsewhere(monkeypatch):
    plan = types.SimpleNamespace(device=torch.device("cuda:1"))
    with pytest.raises(ValueError, match="`device` must be the CPU with `engine='ray'`, got 'cud"):
        Spread(None, 1, 0.0).placed(plan)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"engine": "slurm"}, ValueError, "`engine` must be one of local, ray, got 'slurm'"),
        ({"engine": "ray", "workers": 0}, ValueError, r"`workers` must be an integer in \[1,"),
        ({"engine": "ray", "threads": 1.5}, TypeError, "`threads` must be an integer"),
        ({"engine": "ray", "gpus": -1}, ValueError, "`gpus` must be finite and >= 0"),
        ({"workers": 2}, ValueError, "`workers` is for `engine='ray'`, got 2 with 'local'"),
        ({"gpus": 1}, ValueError, "`gpus` is for `engine='ray'`, got 1 with 'local'"),
    ],
)
def test_engines_that_are_refused(ray, arguments, error, message):
    with pytest.raises(error, match=message):
        run(**arguments)


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"needs the package 'ray'.*splic-ext\[ray\]"):
        spread()
