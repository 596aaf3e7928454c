"""One command from nothing to a completed `greetings` run, and nothing to do after it."""

from __future__ import annotations

import re
import time
from typing import Final

import pytest

from tests.e2e.conftest import FirstUp
from tests.e2e.environment import Environment, docker

pytestmark = pytest.mark.xdist_group("first")

LOOK_SECONDS: Final = 40.0
"""How long a look may take where nobody answers, on a busy machine."""


def test_it_ends_with_a_completed_run_and_says_where_things_are(first_up: FirstUp) -> None:
    text = first_up.done.text
    for url in ("http://127.0.0.1:4300", "http://127.0.0.1:9101", "http://127.0.0.1:8887"):
        assert url in text
    assert "Completed" in text
    assert str(first_up.env.home) in text, "where state and passphrase are kept"
    assert "scripts/down" in text


def test_greetings_ran_all_tasks_on_dask_with_every_letter(env: Environment) -> None:
    flow_run = env.run_deployment("greetings/test-deployment")
    assert flow_run["state_type"] == "COMPLETED"
    asked = {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
    tasks = env.http("/task_runs/filter", asked)
    assert [task["state_type"] for task in tasks] == ["COMPLETED"] * 10
    logs = env.logs(flow_run["id"])
    hosts = re.findall(r"^(?:hello|goodbye) .+ \(on (\S+)\)$", logs, re.MULTILINE)
    assert len(hosts) == 10, logs
    assert set(hosts) <= {env.name("dask-worker-1"), env.name("dask-worker-2")}
    for name in ("Wojciech", "Dawid", "Michał", "Adam", "Rafał"):
        assert f"hello {name}" in logs
        assert f"goodbye {name}" in logs


def test_a_second_up_changes_nothing(env: Environment) -> None:
    text = env.up().text
    assert re.search(r"\d+ unchanged", text)
    assert not re.search(r"\d+ (created|updated|replaced|deleted)|[+~-]\d* ?\d+ (to|created|updated|deleted)", text), (
        text
    )


def test_a_preview_expects_no_changes(env: Environment) -> None:
    env.pulumi("preview", "--expect-no-changes", "--non-interactive")


def test_a_refresh_finds_nothing(env: Environment) -> None:
    env.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes", "--non-interactive")


def test_every_service_is_healthy(env: Environment) -> None:
    listed = docker(
        "ps", "--filter", f"label=prefect-environment.stack={env.stack}", "--format", "{{.Names}} {{.Status}}"
    )
    unhealthy = [line for line in listed.splitlines() if "(healthy)" not in line]
    assert not unhealthy
    assert len(listed.splitlines()) == 8


def test_nothing_listens_beyond_loopback(env: Environment) -> None:
    for name in env.objects("container"):
        ports = docker("port", name)
        assert all("-> 127.0.0.1:" in line for line in ports.splitlines()), f"{name}: {ports}"


def test_no_secret_in_state_argv_or_environment_files(env: Environment) -> None:
    """Only the server's environment has the database's password, and only Prefect's have that of its API."""
    shown = env.pulumi("stack", "export", "--show-secrets").text
    secrets = set(re.findall(r'"plaintext": "\\"([^"\\]{16,})\\""', shown))
    assert len(secrets) >= 4
    credential = env.secret("prefect_api_auth_string")
    of_the_api = {credential, credential.partition(":")[2]}
    plain = env.pulumi("stack", "export").text
    assert not [secret for secret in secrets if secret in plain]
    for name in env.objects("container"):
        config = docker("inspect", "--format", "{{json .Config}} {{json .Args}}", name)
        leaked = {secret for secret in secrets if secret in config}
        known = set() if name in {env.name("minio"), env.name("postgres"), env.name("prefect-api")} else of_the_api
        assert leaked <= known or name == env.name("prefect-server"), name


def test_smoke_fails_without_dask_workers(env: Environment) -> None:
    workers = [env.name("dask-worker-1"), env.name("dask-worker-2")]
    docker("stop", *workers)
    try:
        failed = env.smoke("--timeout", "40", ok=False)
        assert failed.code != 0
        assert "dask" in failed.text.lower()
        assert "Its task runs: " in failed.text
    finally:
        docker("start", *workers)
    env.smoke()


def test_connect_prints_secrets_only_when_asked(env: Environment) -> None:
    told = env.run("scripts/connect", "--stack", env.stack).text
    secret = env.secret("prefect_api_auth_string")
    assert secret not in told
    assert secret in env.run("scripts/connect", "--stack", env.stack, "--show-secrets").text
    exports = "\n".join(line for line in told.splitlines() if line.startswith("export "))
    shown = env.run("sh", "-c", f'{exports}\necho "$PREFECT_API_URL $PREFECT_API_AUTH_STRING"').text.strip()
    assert shown == f"http://127.0.0.1:4300/api {secret}"


def test_status_of_an_engine_that_answers_and_of_one_that_does_not(env: Environment) -> None:
    look = ["scripts/status", "--stack", env.stack]
    assert "✓ containers     8 of 8 run" in env.run(*look, ok=False).text
    begin = time.monotonic()
    done = env.run("env", "DOCKER_HOST=tcp://127.0.0.1:9", *look, ok=False)
    assert time.monotonic() - begin < LOOK_SECONDS
    assert done.code == 2
    assert done.text.startswith("stack e2e: not all of it can be seen")
    assert "? host: its engine can't be asked" in done.text
    assert env.run("scripts/status", "--stack", "dev", ok=False).code == 2, "there is no such stack"
