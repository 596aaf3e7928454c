"""What the smoke test makes of what it sees."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import Log, State, TaskRun
from prefect.states import Completed, Failed, Running

from scripts.lib.smoke import Container, diagnose, greetings_problems

NAMES = ["Michał", "Rafał"]
DASK = Container("dask-worker-1", "host-dask-1", running=True, out_of_memory=False, memory_setting="dask.memory_mb")
WORKER = Container(
    "prefect-worker-dask-1",
    "host-worker-1",
    running=True,
    out_of_memory=False,
    memory_setting="workers.dask.memory_mb",
)


def task(state: State[object] | None = None) -> TaskRun:
    return TaskRun(id=uuid4(), task_key="say", dynamic_key="0", state=state or Completed())


def log(message: str, task_run: UUID | None = None) -> Log:
    return Log(
        name="prefect.task_runs",
        level=20,
        message=message,
        timestamp=datetime.now(UTC),
        flow_run_id=uuid4(),
        task_run_id=task_run or uuid4(),
    )


def logs(host: str = DASK.host) -> list[Log]:
    return [log(f"{word} {name} (on {host})") for name in NAMES for word in ("hello", "goodbye")]


def test_all_as_it_should_be() -> None:
    noise = [log("Finished in state Completed()")]
    assert not list(greetings_problems(NAMES, [task() for _ in range(4)], [*logs(), *noise], [DASK, WORKER]))


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        ([task() for _ in range(3)], "3 of 3 task runs are Completed; all of 4 should be"),
        ([*(task() for _ in range(3)), task(Running())], "3 of 4"),
        ([*(task() for _ in range(3)), task(Failed())], "3 of 4"),
        ([task() for _ in range(5)], "5 of 5"),
    ],
)
def test_every_task_counts(tasks: list[TaskRun], text: str) -> None:
    [problem] = greetings_problems(NAMES, tasks, logs(), [DASK])
    assert text in problem


def test_every_name_must_be_in_the_logs() -> None:
    tasks = [task() for _ in range(4)]
    assert list(greetings_problems(NAMES, tasks, logs()[1:], [DASK])) == ["no task logged `hello Michał`"]
    [problem] = greetings_problems(NAMES, tasks, [*logs(), *logs()[:1]], [DASK])
    assert "5 greetings" in problem


@pytest.mark.parametrize("containers", [[DASK, WORKER], [WORKER]], ids=["own cluster", "external cluster"])
def test_tasks_beside_the_flow_are_not_on_dask(containers: list[Container]) -> None:
    tasks = [task() for _ in range(4)]
    [problem] = greetings_problems(NAMES, tasks, logs(WORKER.host), containers)
    assert WORKER.host in problem


def test_an_external_cluster_may_be_anywhere() -> None:
    assert not list(greetings_problems(NAMES, [task() for _ in range(4)], logs("far-away"), [WORKER]))


def test_a_healthy_stack_gives_no_diagnosis() -> None:
    assert not list(diagnose("dask-pool", 1, 2, [DASK, WORKER]))
    assert not list(diagnose("dask-pool", 1, None, []))


def test_stopped_containers_are_named_with_the_command() -> None:
    stopped = Container("dask-worker-2", "host-dask-2", running=False, out_of_memory=False, memory_setting="")
    [problem] = diagnose("dask-pool", 1, 0, [stopped, WORKER])
    assert "`docker start host-dask-2`" in problem
    [problem] = diagnose("dask-pool", 0, 2, [DASK, WORKER])
    assert "dask-pool" in problem
    assert "`docker logs host-worker-1`" in problem
    [problem] = diagnose("dask-pool", 0, 2, [DASK])
    assert "`profiles`" in problem


def test_the_command_is_for_the_host_that_the_container_is_on() -> None:
    there = replace(DASK, running=False, place=" on ssh://ops@gpu")
    [problem] = diagnose("dask-pool", 1, 0, [replace(DASK, running=False), there, WORKER])
    assert "`docker start host-dask-1` and `docker start host-dask-1` on ssh://ops@gpu" in problem


def test_an_out_of_memory_kill_names_the_setting() -> None:
    killed = Container(
        "prefect-worker-dask-1",
        "host-worker-1",
        running=True,
        out_of_memory=True,
        memory_setting="workers.dask.memory_mb",
    )
    [problem] = diagnose("dask-pool", 1, 2, [DASK, killed])
    assert "host-worker-1" in problem
    assert "workers.dask.memory_mb" in problem
