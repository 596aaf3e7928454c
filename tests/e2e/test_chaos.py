"""What a run depends on is killed again and again under it, or has no room: nothing is lost, and all is well soon."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.e2e.environment import eventually
from tests.e2e.hosts import Hosted, needs_disk
from tests.e2e.test_status import problem

pytestmark = pytest.mark.xdist_group("lived-in")

FLOW: Final = """\
import os
import time

from prefect import flow, task
from prefect_dask.task_runners import DaskTaskRunner


@task(persist_result=True)
def squared(number: int) -> int:
    time.sleep(1)
    return number * number


@flow(
    task_runner=DaskTaskRunner(address=os.environ["DASK_SCHEDULER_ADDRESS"]),
    persist_result=True,
    retries=10,
)
def sums(number: int) -> int:
    return sum(future.result() for future in [squared.submit(number + more) for more in range(3)])
"""
PARTS: Final = ("postgres", "minio", "prefect-server", "dask-scheduler", "prefect-worker-dask-1")
ROUNDS: Final = 5
SECONDS: Final = 3
"""Between the end of one and the end of the next."""
HEALTHY_SECONDS: Final = 60
RUNS: Final = 12
FULL_SECONDS: Final = 30


@pytest.fixture(scope="module", name="env")
def _env(lived_in: Hosted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    env, before = lived_in, lived_in.settings["flows"]
    project = tmp_path_factory.mktemp("sums")
    (project / "sums.py").write_text(FLOW)
    sums = {"path": str(project), "worker": "dask", "deployments": {"steady": {"entrypoint": "sums.py:sums"}}}
    env.write_settings(flows={**before, "sums": sums})
    env.apply()
    yield env
    # So that status does not tell of the crashes to those who come after: a restart by hand sets the count back.
    env.docker("restart", "--time", "10", *(env.name(part) for part in (*PARTS, "dask-worker-1")))
    env.write_settings(flows=before)
    env.apply()
    eventually(lambda: not unhealthy(env), HEALTHY_SECONDS)


def crash(env: Hosted, part: str) -> None:
    """Kill a container's first process as a crash does: Docker starts what it did not end itself again."""
    pid = env.docker("inspect", "--format", "{{.State.Pid}}", env.name(part))
    if pid != "0":  # It may be just about to start.
        env.host.run("kill", "-KILL", pid)


def planned(env: Hosted, seconds: float) -> list[str]:
    """Ids of flow runs that are to begin one after the other within `seconds`."""
    deployment = env.http("/deployments/name/sums/steady")["id"]
    begin = datetime.now(UTC)
    runs = []
    for number in range(RUNS):
        at = begin + timedelta(seconds=seconds * number / RUNS)
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": at.isoformat()}}
        body = {"parameters": {"number": number}, "state": state}
        runs.append(str(env.http(f"/deployments/{deployment}/create_flow_run", body)["id"]))
    return runs


def unhealthy(env: Hosted) -> list[str]:
    named = f"label=prefect-environment.stack={env.stack}"
    listed = env.docker("ps", "--all", "--format", "{{.Names}} {{.Status}}", "--filter", named)
    return [line for line in listed.splitlines() if "(healthy)" not in line]


def states(env: Hosted, runs: list[str]) -> Counter[str]:
    """How many are in which state."""
    try:
        found: list[dict[str, Any]] = env.http("/flow_runs/filter", {"flow_runs": {"id": {"any_": runs}}})
    except httpx.HTTPError:
        return Counter()
    return Counter(each["state_name"] for each in found)


@pytest.fixture(name="before")
def _before(env: Hosted, tmp_path: Path) -> Iterator[dict[str, str]]:
    """What is in the bucket, some of it large."""
    store = env.minio()
    (tmp_path / "kept").write_bytes(os.urandom(1 << 20))
    store.fput_object("flows", "kept", str(tmp_path / "kept"))
    yield objects(env)
    store.remove_object("flows", "kept")


def objects(env: Hosted) -> dict[str, str]:
    """Name and checksum of each object."""
    return {str(each.object_name): str(each.etag) for each in env.minio().list_objects("flows", recursive=True)}


def assert_nothing_is_lost(env: Hosted, runs: list[str], before: dict[str, str]) -> None:
    """All is healthy soon, all runs end as they should, and their results are there, as is all that was before."""
    eventually(lambda: not unhealthy(env), HEALTHY_SECONDS)
    eventually(lambda: states(env, runs) == {"Completed": RUNS}, 180)
    after = objects(env)
    assert before.items() <= after.items()
    for run in runs:
        result = env.http(f"/flow_runs/{run}")["state"]["data"]["storage_key"]
        assert any(name.endswith(result) for name in after)


def test_no_run_and_no_object_is_lost(env: Hosted, before: dict[str, str]) -> None:
    runs = planned(env, ROUNDS * len(PARTS) * SECONDS)
    for _ in range(ROUNDS):
        for part in PARTS:
            crash(env, part)
            time.sleep(SECONDS)
    assert_nothing_is_lost(env, runs, before)


@needs_disk
def test_a_disk_that_is_full_for_a_while(env: Hosted, before: dict[str, str]) -> None:
    runs = planned(env, FULL_SECONDS)
    with env.host.filled():
        write = "SELECT pg_logical_emit_message(true, 'full', repeat('x', 40000000))"
        said = env.docker("exec", env.name("postgres"), "psql", "-U", "prefect", "-d", "prefect", "-c", write, ok=False)
        assert "No space left" in said or "terminated" in said, said
        problem(env, "host", "are free for containers and volumes")
        time.sleep(FULL_SECONDS)
    assert_nothing_is_lost(env, runs, before)
