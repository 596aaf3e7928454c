"""What an operator looks at and opens: each fault is made for real, named by scripts/status, and mended as it says."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from tests.e2e.environment import Environment, eventually
from tests.e2e.hosts import Hosted

pytestmark = pytest.mark.xdist_group("lived-in")

DEPLOYMENT: Final = "greetings/test-deployment"
WORKER: Final = "prefect-worker-dask-1"
SECONDS: Final = 40.0
"""How long a look may take where something is dead, on a busy machine."""
FLOW: Final = """
from prefect import flow, task

@task
def double(number):
    return 2 * number

@flow(log_prints=True)
def from_a_laptop():
    print("doubled", double(21))

from_a_laptop()
"""
INTERRUPTED: Final = """
import os, time, urllib.request
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(2)
    urllib.request.urlopen(os.environ["PREFECT_API_URL"].removesuffix("/api"), timeout=5)
    print("still there")
"""
"""A command that has something to say after Ctrl-C."""


@pytest.fixture(name="env")
def _env(lived_in: Hosted) -> Hosted:
    return lived_in


def status(env: Environment) -> dict[str, Any]:
    """What `scripts/status --json` tells; its exit code is in it, too."""
    begin = time.monotonic()
    done = env.run("scripts/status", "--stack", env.stack, "--json", ok=False)
    assert time.monotonic() - begin < SECONDS
    told: dict[str, Any] = json.loads(done.text)
    assert told["exit_code"] == done.code
    return told


def problems(env: Environment) -> list[dict[str, Any]]:
    """What is told of the stack; how full the disk is, is the matter of the machine that the tests run on."""
    return [each for each in status(env)["problems"] if "are free for" not in each["meaning"]]


def problem(env: Environment, what: str, words: str) -> str:
    """How to mend what is told of a thing, once it is told in these words; the exit code says so, too."""

    def fix() -> str:
        told = status(env)
        found = [each for each in told["problems"] if each["what"] == what and re.search(words, each["meaning"])]
        assert not found or told["exit_code"] == 1
        return found[0]["fix"] if found else ""

    return str(eventually(fix, 120))


def mend(env: Hosted, fix: str) -> None:
    """Run the last command that is told, there where it is told to be run."""
    command, on_host = re.findall(r"`([^`]+)`( on ssh://\S+)?", fix)[-1]
    if on_host:
        assert on_host == f" on {env.host.address}"
        env.host.ssh(command)
    else:
        env.run(*shlex.split(command))


def assert_well(env: Hosted) -> None:
    """It comes to be well again, within what health checks and heartbeats take."""
    eventually(lambda: not problems(env), 120)


@contextmanager
def frozen(env: Hosted, container: str) -> Iterator[None]:
    """Freeze the processes of a container, unknown to the engine."""
    pids = [line.split()[0] for line in env.docker("top", env.name(container), "-eo", "pid").splitlines()[1:]]
    env.host.run("kill", "-STOP", *pids)
    try:
        yield
    finally:
        env.host.run("kill", "-CONT", *pids)


def test_all_is_well(env: Hosted) -> None:
    assert_well(env)
    text = env.run("scripts/status", "--stack", env.stack, ok=False).text
    assert text.startswith("stack lived-in: ")
    assert "11 of 11 run" in text
    assert re.search(r"✓ dask-pool +1 worker online; flow runs: 0 running, 0 due, 0 late", text)
    assert re.search(r"✓ certificates +5 of 5, the first ends in \d+ h", text)
    told = status(env)
    assert told["prefect"]["version"] == "3.8.8"
    assert told["dask"]["workers"] == 1
    [disk] = told["hosts"][0]["disks"]
    assert 0 < disk["free_bytes"] < disk["total_bytes"]
    assert {each["name"]: each["health"] for each in told["containers"]}.keys() == {
        name.removeprefix(env.prefix) for name in env.objects("container")
    }


def test_logs_of_a_container(env: Hosted) -> None:
    listed = env.run("scripts/logs", "--stack", env.stack).text
    assert re.search(r"^minio +host +Up ", listed, re.MULTILINE)
    said = env.run("scripts/logs", "minio", "--tail", "2", "--stack", env.stack).text
    assert said.strip() == env.docker("logs", "--tail", "2", env.name("minio"))
    argv = ["scripts/logs", "prefect-server", "-f", "--since", "5m", "--stack", env.stack]
    with subprocess.Popen(argv, cwd=env.root, env=env.env, stdout=subprocess.PIPE, text=True) as following:
        env.docker("exec", env.name("prefect-server"), "sh", "-c", "echo a new line >/proc/1/fd/1")
        assert following.stdout
        assert any(line == "a new line\n" for line in following.stdout)
        following.send_signal(signal.SIGINT)
        following.wait(10)
    assert following.returncode == 130


def test_connect_runs_a_flow_from_here_and_ends_as_its_command_does(env: Hosted) -> None:
    connect = ["scripts/connect", "--stack", env.stack]
    said = env.run(*connect, "--", ".venv/bin/python", "-c", FLOW).text
    assert "doubled 42" in said
    [run] = env.http("/flow_runs/filter", {"flows": {"name": {"any_": ["from-a-laptop"]}}})
    assert run["state_type"] == "COMPLETED"
    said = env.run(*connect, "--", "prefect", "deployment", "run", DEPLOYMENT, "--watch").text
    assert "Completed" in said
    assert env.run(*connect, "--", "sh", "-c", "exit 7", ok=False).code == 7
    buckets = "import boto3; print([each['Name'] for each in boto3.client('s3').list_buckets()['Buckets']])"
    assert "['flows']" in env.run(*connect, "--", sys.executable, "-c", buckets).text


def test_a_stopped_container_and_the_late_run_that_waits_for_it(env: Hosted) -> None:
    env.docker("stop", env.name(WORKER))
    fix = problem(env, WORKER, "stopped; it ended with")
    found = env.http(f"/deployments/name/{DEPLOYMENT}")
    waiting = env.http(f"/deployments/{found['id']}/create_flow_run", {})
    mend(env, problem(env, "dask-pool", r"1 flow run late, the first by \d+ s: no worker is online"))
    mend(env, fix)
    assert env.followed(waiting["id"])["state_type"] == "COMPLETED"
    assert_well(env)


def test_a_paused_pool_and_a_paused_queue(env: Hosted) -> None:
    env.http("/work_pools/dask-pool", {"is_paused": True}, method="PATCH")
    mend(env, problem(env, "dask-pool", "it is paused"))
    env.http("/work_pools/dask-pool/queues/dask-queue", {"is_paused": True}, method="PATCH")
    mend(env, problem(env, "dask-pool", "queue dask-queue is paused"))
    assert_well(env)


def test_what_runs_and_does_not_answer(env: Hosted) -> None:
    with frozen(env, WORKER):
        problem(env, "dask-pool", "0 of 1 running workers")
        with frozen(env, "minio"), frozen(env, "dask-scheduler"), frozen(env, "caddy"):
            problem(env, "MinIO", "it does not answer")
            problem(env, "Dask", "it does not answer")
            problem(env, "tasks.lived-in.test", "nobody gets in there")
        problem(env, WORKER, "fails its health check")
    with frozen(env, "prefect-server"):
        problem(env, "Prefect", "it does not answer")
    assert_well(env)


def test_a_frozen_container(env: Hosted) -> None:
    env.docker("pause", env.name("minio"))
    mend(env, problem(env, "minio", "it is frozen"))


def test_memory_that_ran_out(env: Hosted) -> None:
    env.docker("exec", env.name("caddy"), "tail", "/dev/zero", ok=False)
    fix = problem(env, "caddy", "ran out of memory")
    assert "Raise proxy.memory_mb in Pulumi.lived-in.yaml" in fix
    mend(env, fix)
    assert_well(env)


def test_a_container_that_ended_by_itself_then_is_gone(env: Hosted) -> None:
    worker = env.name("dask-worker-1")
    env.host.run("kill", "-KILL", env.docker("inspect", "--format", "{{.State.Pid}}", worker))
    problem(env, "dask-worker-1", r"ended by itself and was started again \d+ s ago, 1 time in all")
    env.docker("rm", "--force", worker)
    fix = problem(env, "dask-worker-1", "gone from its host")
    assert "scripts/pulumi up --refresh" in fix
    env.apply("--refresh")
    assert_well(env)


def test_a_container_that_is_no_part_of_the_stack(env: Hosted) -> None:
    marks = {"project": "prefect-environment", "stack": env.stack, "name": "stray"}
    labels = [word for key, value in marks.items() for word in ("--label", f"prefect-environment.{key}={value}")]
    env.docker("run", "--detach", "--name", env.name("stray"), *labels, env.image("minio"), "sleep", "300", ok=False)
    mend(env, problem(env, "stray", "no part of the stack"))
    assert_well(env)


def test_the_size_of_the_bucket_once_minio_has_counted(env: Hosted) -> None:
    assert eventually(lambda: status(env)["minio"]["used_bytes"], 120) > 0
