"""The simulation of a cluster: nothing is lost, nothing is made twice, nothing comes for free."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("simpy", reason="the extra 'test-remote' is not installed")
BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def cluster(monkeypatch):
    if not (BENCHMARKS / "simulate_cluster.py").is_file():
        pytest.skip("the tests run without the benchmarks beside them")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("simulate_cluster")


@pytest.fixture
def work(cluster):
    return cluster.Work(995, 10, seconds=0.1, bytes_read=2000.0, bytes_written=3000.0)


def test_one_worker_takes_the_sum(cluster, work):
    """Of 995 images, their bytes, the requests of 100 shards, and what the driver does."""
    work = replace(work, shard_requests=3, image_requests=1, look_seconds=0.001)
    driver = cluster.Driver(start=5, plan=0.01, hand=0.02, answer=0.03, finish=0.04)
    one = cluster.Cluster(1, bandwidth=1e5, latency=0.5)
    out = cluster.simulate(work, driver, one)
    shards = 995 * 0.1 + 995 * 5000 / 1e5 + (300 + 995) * 0.5
    before = 5 + 995 * (0.001 + 2000 / 1e5) + 100 * 0.01
    assert out.computing == pytest.approx(shards)
    assert out.seconds == pytest.approx(before + shards + 100 * (0.02 + 0.03 + 0.04))
    assert out.moving == pytest.approx(995 * 5000)


@pytest.mark.parametrize("workers", [1, 7, 300])
@pytest.mark.parametrize("ahead", [1, 2])
def test_every_shard_is_made_once(cluster, work, workers, ahead):
    """Whatever dies."""
    many = cluster.Cluster(
        workers,
        bandwidth=1e6,
        each=1e5,
        straggle=0.5,
        failures_per_hour=900,
        restart=2,
        ahead=ahead,
    )
    out = cluster.simulate(work, cluster.Driver(hand=0.01, answer=0.01), many, seed=workers)
    assert sorted(out.finished) == list(range(100))
    assert out.deaths > 0
    assert out.lost > 0
    assert out.driving == pytest.approx(100 * 0.02)


def test_more_workers_are_no_slower(cluster, work):
    times = [
        cluster.simulate(work, cluster.Driver(hand=0.01), cluster.Cluster(n, straggle=0.5)).seconds
        for n in (1, 2, 3, 5, 8, 20, 50, 100, 200)
    ]
    assert times == sorted(times, reverse=True)
    assert times[0] / times[3] == pytest.approx(5, rel=0.1)
    assert times[-1] == times[-2]  # there are 100 shards


def test_deaths_only_add(cluster, work):
    def seconds(rate):
        some = cluster.Cluster(4, straggle=0.3, failures_per_hour=rate, restart=1)
        return cluster.simulate(work, cluster.Driver(), some).seconds

    without = seconds(0)
    assert all(seconds(rate) >= without for rate in (1, 10, 100))
    assert seconds(1000) > 1.2 * without


def test_the_store_is_shared(cluster):
    """Ten transfers at once take ten times as long as one, unless each is held up by itself."""
    work = cluster.Work(10, 1, seconds=0.0, bytes_read=100.0)
    for each, seconds in ((1e9, 10.0), (10.0, 10.0), (5.0, 20.0)):
        store = cluster.Cluster(10, bandwidth=100.0, each=each)
        out = cluster.simulate(work, cluster.Driver(), store)
        assert out.seconds - out.before == pytest.approx(seconds)
    late = cluster.Cluster(2, bandwidth=100.0)
    uneven = cluster.Work(3, 2, seconds=0.0, bytes_written=100.0)  # 200 and 100 bytes
    assert cluster.simulate(uneven, cluster.Driver(), late).seconds == pytest.approx(3.0)


def test_the_driver_is_a_limit(cluster, work):
    """A hundred tasks cannot be handed out faster than one after the other."""
    out = cluster.simulate(work, cluster.Driver(hand=0.5), cluster.Cluster(100))
    assert out.seconds == pytest.approx(100 * 0.5 + 1.0, rel=0.02)


def test_many_shards_share_a_task(cluster, monkeypatch):
    monkeypatch.setattr("cluster_events.MOST_TASKS", 10)
    work = cluster.Work(25, 1, seconds=1.0)
    out = cluster.simulate(work, cluster.Driver(hand=0.1), cluster.Cluster(3))
    assert out.driving == pytest.approx(0.1 * 9)  # of three shards each, and of one
    assert sorted(out.finished) == list(range(25))


def test_the_same_seed_gives_the_same_run(cluster, work):
    many = cluster.Cluster(5, straggle=0.3, failures_per_hour=50)
    runs = [cluster.simulate(work, cluster.Driver(), many, seed).seconds for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_the_committed_result_is_of_these_assumptions(cluster):
    """A changed assumption changes the numbers: run the script again."""
    result = json.loads(cluster.RESULT.read_text(encoding="utf-8"))
    costs = json.loads(cluster.COSTS.read_text(encoding="utf-8"))
    assert result["assumptions"] == list(cluster.ASSUMPTIONS)
    assert result["validation"] == cluster.rounded(cluster.validate(costs))
    load = costs["local"]["loads"][0]
    fresh = cluster.predict(load, 16 * 80_000, 16, "object store", costs)
    assert cluster.rounded(fresh) in result["weak_scaling"]
