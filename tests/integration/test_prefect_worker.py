"""The worker of the images, against a real server: how it waits, and how it goes."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.e2e.environment import descendants
from tests.integration.harness import Props
from tests.integration.ports import free_port
from tests.integration.prefect_server import AUTH, RunningPrefect

WORKER = Path(__file__).parents[2] / "images" / "worker" / "prefect-worker"
PATIENCE_SECONDS = 60

FLOW = """
import time

from prefect import flow


@flow
def nap(seconds: int):
    print("napping", flush=True)
    time.sleep(seconds)


@flow(retries=1)
def again(seconds: int):
    nap.fn(seconds)
"""

Start = Callable[..., AbstractContextManager["subprocess.Popen[bytes]"]]


@pytest.fixture
def start(prefect_server: RunningPrefect, tmp_path: Path) -> Start:
    """Return what starts a worker of a pool, as the container does."""

    @contextmanager
    def started(pool: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PREFECT_API_URL": prefect_server.connection["url"],
            "PREFECT_API_AUTH_STRING": AUTH,
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
        }
        options = ["--type", "process", "--pool", pool, "--name", pool, "--no-create-pool-if-not-found"]
        with (
            (tmp_path / "log").open("wb") as log,
            subprocess.Popen(
                [sys.executable, WORKER, *options],
                env=environment | env,
                stdout=log,
                stderr=subprocess.STDOUT,
            ) as worker,
        ):
            try:
                yield worker
            finally:
                worker.kill()

    return started


def deploy(prefect: RunningPrefect, pool: str, directory: Path, seconds: int, flow: str = "nap") -> str:
    """Make the pool and a deployment on it; return the deployment's id."""
    (directory / "nap.py").write_text(FLOW)
    if prefect.get(f"/work_pools/{pool}") is None:
        prefect.send("POST", "/work_pools/", {"name": pool, "type": "process"})
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(directory)}}
    deployment = {
        "name": pool,
        "flow_id": prefect.send("POST", "/flows/", {"name": flow})["id"],
        "entrypoint": f"nap.py:{flow}",
        "pull_steps": [step],
        "parameters": {"seconds": seconds},
        "work_pool_name": pool,
    }
    return str(prefect.send("POST", "/deployments/", deployment)["id"])


def run(prefect: RunningPrefect, deployment: str, state: str = "SCHEDULED") -> str:
    created = prefect.send("POST", f"/deployments/{deployment}/create_flow_run", {"state": {"type": state}})
    return str(created["id"])


def state(prefect: RunningPrefect, run_id: str) -> Props:
    found: Props = prefect[f"/flow_runs/{run_id}"]["state"]
    return found


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)


def napping(log: Path) -> Callable[[], bool]:
    return lambda: "napping" in log.read_text()


@pytest.fixture
def pool() -> str:
    return f"pool-{secrets.token_hex(4)}"


def test_a_replaced_worker_finishes_its_run_and_takes_no_other(
    prefect_server: RunningPrefect, start: Start, pool: str, tmp_path: Path
) -> None:
    deployment = deploy(prefect_server, pool, tmp_path, seconds=6)
    with start(pool) as worker:
        taken = run(prefect_server, deployment)
        until(napping(tmp_path / "log"))
        worker.send_signal(signal.SIGTERM)
        left = run(prefect_server, deployment)
        assert worker.wait(PATIENCE_SECONDS) == 0
    assert state(prefect_server, taken)["type"] == "COMPLETED"
    assert state(prefect_server, left)["type"] == "SCHEDULED"


def test_a_run_that_outlasts_the_deadline_is_crashed(
    prefect_server: RunningPrefect, start: Start, pool: str, tmp_path: Path
) -> None:
    deployment = deploy(prefect_server, pool, tmp_path, seconds=600)
    with start(pool, DRAIN_SECONDS="2") as worker:
        taken = run(prefect_server, deployment)
        until(napping(tmp_path / "log"))
        worker.send_signal(signal.SIGTERM)
        worker.wait(PATIENCE_SECONDS)
    ended = state(prefect_server, taken)
    assert ended["type"] == "CRASHED"
    assert "2 s" in ended["message"]


def test_it_waits_for_its_pool(prefect_server: RunningPrefect, start: Start, pool: str, tmp_path: Path) -> None:
    with start(pool) as worker:
        until(lambda: "not found" in (tmp_path / "log").read_text())
        done = run(prefect_server, deploy(prefect_server, pool, tmp_path, seconds=0))
        until(lambda: state(prefect_server, done)["type"] == "COMPLETED")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_SECONDS) == 0


def test_it_waits_for_the_api(start: Start, pool: str, tmp_path: Path) -> None:
    with start(pool, PREFECT_API_URL=f"http://127.0.0.1:{free_port()}/api") as worker:
        until(lambda: "started!" in (tmp_path / "log").read_text())
        time.sleep(5)
        assert worker.poll() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk that can be filled is mounted by root")
def test_a_full_disk_holds_runs_back_until_there_is_room(
    prefect_server: RunningPrefect, start: Start, pool: str, tmp_path: Path
) -> None:
    deployment = deploy(prefect_server, pool, tmp_path, seconds=0)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", disk], check=True)
    try:
        with (disk / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, 128 * 1024 * 1024)
        with start(pool, TMPDIR=str(disk)) as worker:
            held = run(prefect_server, deployment)
            until(lambda: "no new flow runs" in (tmp_path / "log").read_text())
            time.sleep(5)
            assert state(prefect_server, held)["type"] == "SCHEDULED"
            (disk / "filler").unlink()
            until(lambda: state(prefect_server, held)["type"] == "COMPLETED")
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(PATIENCE_SECONDS) == 0
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_killed_worker_sees_to_its_runs_once_it_is_back(
    prefect_server: RunningPrefect, start: Start, pool: str, tmp_path: Path
) -> None:
    deployment = deploy(prefect_server, pool, tmp_path, seconds=5)
    again = deploy(prefect_server, pool, tmp_path, seconds=5, flow="again")
    with start(pool) as worker:
        lost, repeated = run(prefect_server, deployment), run(prefect_server, again)
        # Taken by a worker that died before it put its name to it; and by another one, which lives.
        taken, elsewhere = run(prefect_server, deployment, "PENDING"), run(prefect_server, deployment, "PENDING")
        prefect_server.send("PATCH", f"/flow_runs/{elsewhere}/labels", {"prefect.worker.name": "another"})
        until(lambda: (tmp_path / "log").read_text().count("napping") == 2)
        # As a container's end takes all of it along.
        for process in [worker.pid, *descendants(worker.pid)]:
            os.kill(process, signal.SIGKILL)
    with start(pool) as worker:
        until(lambda: all(state(prefect_server, each)["type"] == "COMPLETED" for each in (repeated, taken)))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_SECONDS) == 0
    assert state(prefect_server, lost)["type"] == "CRASHED"
    assert "was killed" in state(prefect_server, lost)["message"]
    assert state(prefect_server, elsewhere)["type"] == "PENDING"
