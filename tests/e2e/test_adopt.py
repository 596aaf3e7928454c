"""An installation that was put together by hand is taken over: its networks, Dask, Caddy, and all that MinIO holds."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider

from tests.e2e.environment import ROOT, Environment, docker, environment, eventually, run
from tests.integration.conftest import RunningMinio, running_minio

pytestmark = pytest.mark.xdist_group("second")

CADDY_PORT = 8499
CADDYFILE = """\
{
    admin off
}
http://tasks.example.test {
    reverse_proxy prefect-server:4200
}
http://storage.example.test {
    reverse_proxy minio:9000
}
"""


@dataclass(frozen=True)
class Old:
    """What was there before."""

    networks: dict[str, str]
    """The environment's name of a network to the existing one's."""
    data: Path
    """MinIO's directory."""
    dask: Environment
    """A Dask cluster that other people run."""


def listing(client: Minio) -> dict[str, list[tuple[str, str | None]]]:
    """Every bucket's objects and their ETags."""
    return {
        bucket.name: sorted((o.object_name, o.etag) for o in client.list_objects(bucket.name, recursive=True))
        for bucket in client.list_buckets()
    }


def fill(minio: RunningMinio, directory: Path) -> None:
    """What people had put there: flows by the old names, a data lake beside them, a user with a policy."""
    source = directory / "object"
    for bucket, names in {"flows": ["greetings/dask_flow.py", "old/flow.py"], "lake": ["a/1", "a/2", "b"]}.items():
        minio.s3.make_bucket(bucket)
        for name in names:
            source.write_text(f"{bucket}/{name}\n" * 1000)
            minio.s3.fput_object(bucket, name, str(source))
    minio.admin.user_add("prefect-user", "the-old-password")
    allowed = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::flows/*"]}
    minio.admin.policy_add("flows-only", policy={"Version": "2012-10-17", "Statement": [allowed]})
    minio.admin.attach_policy(["flows-only"], user="prefect-user")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Old]:
    """Two networks that somebody made, a Dask cluster on one of them, and a directory that MinIO wrote."""
    directory = tmp_path_factory.mktemp("old")
    networks = {"caddy": "e2e-old-caddy-network", "dask": "e2e-old-dask-network"}
    for name in networks.values():
        docker("network", "rm", name, ok=False)
        docker("network", "create", name)
    with running_minio(directory, "the-old-root-password") as minio:
        fill(minio, directory)
    profiles = {"orion": False, "agent": False, "cli": False, "minio": False}
    shared = {"dask": {"external": networks["dask"]}, "claim_short_names": True}
    try:
        for dask in environment(
            tmp_path_factory.mktemp("dask"), "e2e-dask", 400, profiles=profiles, networks=shared, flows=None
        ):
            dask.up()
            yield Old(networks, directory / "data", dask)
    finally:
        for name in networks.values():
            docker("network", "rm", name, ok=False)


@pytest.fixture(scope="module")
def taken_over(old: Old, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The environment as docs/adopt.md has it set up, brought up."""
    yield from environment(
        tmp_path_factory.mktemp("adopt"),
        "e2e-adopt",
        500,
        profiles={"dask": False},
        dask={"address": "scheduler:8786"},
        networks={**{name: {"external": there} for name, there in old.networks.items()}, "claim_short_names": True},
        minio={"data_directory": str(old.data), "adopt": True},
    )


def test_what_exists_is_not_taken_over_unasked(taken_over: Environment) -> None:
    asked = dict(taken_over.settings["minio"])
    taken_over.write_settings(minio={**asked, "adopt": False})
    refused = taken_over.up(ok=False)
    assert refused.code
    assert "flows" in refused.text
    assert "adopt" in refused.text
    taken_over.write_settings(minio=asked)


def test_greetings_runs_on_the_dask_that_was_there(taken_over: Environment, old: Old) -> None:
    taken_over.up()
    flow_run = taken_over.run_deployment("greetings/test-deployment")
    assert flow_run["state_type"] == "COMPLETED"
    logs = taken_over.logs(flow_run["id"])
    assert old.dask.name("dask-worker-") in logs
    taken_over.pulumi("preview", "--refresh", "--expect-no-changes", "--non-interactive")


def test_every_object_is_still_there_and_the_user_may_do_no_more_than_flows_need(taken_over: Environment) -> None:
    found = listing(taken_over.minio())
    assert [name for name, _ in found["lake"]] == ["a/1", "a/2", "b"]
    assert {"greetings/dask_flow.py", "old/flow.py"} <= {name for name, _ in found["flows"]}
    content = taken_over.minio().get_object("lake", "b").read().decode()
    assert content == "lake/b\n" * 1000
    password = taken_over.pulumi("stack", "output", "minio_root_password", "--show-secrets").text.strip()
    admin = MinioAdmin(endpoint="127.0.0.1:9500", credentials=StaticProvider("minio-root", password), secure=False)
    actions = [statement["Action"] for statement in json.loads(admin.policy_info("flows-only"))["Statement"]]
    assert "s3:*" not in json.dumps(actions)


OLD_FLOW = """\
from prefect import flow, task
from prefect.blocks.system import Secret
from prefect.deployments import Deployment

@task
def hello(name):
    print("hello", name)

@flow
def old_greetings():
    hello("Dawid")

if __name__ == "__main__":
    old_greetings()
    Secret(value="kept").save("old-secret")
    Deployment.build_from_flow(old_greetings, name="old", work_queue_name="dask-queue", apply=True)
"""
OLD_DATABASE_PORT = 5437


def old_dump(postgres_image: str, directory: Path) -> Path:
    """A dump of a database that Prefect 2.7 itself has written: a run, a secret block, a deployment."""
    (directory / "old_flow.py").write_text(OLD_FLOW)
    uv, python = ROOT / ".venv/bin/uv", directory / "venv/bin/python"
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "VIRTUAL_ENV"))}
    docker("rm", "--force", "--volumes", "e2e-old-postgres", ok=False)
    docker(
        *("run", "--detach", "--name", "e2e-old-postgres", "--publish", f"127.0.0.1:{OLD_DATABASE_PORT}:5432"),
        *(
            "--env",
            "POSTGRES_USER=orion",
            "--env",
            "POSTGRES_DB=orion",
            "--env",
            "POSTGRES_PASSWORD=old",
            postgres_image,
        ),
    )
    try:
        packages = ["prefect==2.7.12", "asyncpg", "setuptools<60"]
        for command in (
            [uv, "venv", "-q", "--python", "3.11", directory / "venv"],
            # What there was at the time: nothing newer works with it.
            [uv, "pip", "install", "-q", "--python", python, "--exclude-newer", "2023-02-15", *packages],
        ):
            assert run([str(word) for word in command], directory, env).code == 0
        eventually(lambda: "accepting" in docker("exec", "e2e-old-postgres", "pg_isready", ok=False), 60)
        url = f"postgresql+asyncpg://orion:old@127.0.0.1:{OLD_DATABASE_PORT}/orion"
        env |= {"PREFECT_HOME": str(directory / "home"), "PREFECT_ORION_DATABASE_CONNECTION_URL": url}
        done = run([str(python), "old_flow.py"], directory, env)
        assert done.code == 0, done.text
        dump = directory / "prefect.sql"
        dump.write_text(docker("exec", "e2e-old-postgres", "pg_dump", "--no-owner", "-U", "orion", "orion"))
        return dump
    finally:
        docker("rm", "--force", "--volumes", "e2e-old-postgres")


def test_the_database_of_prefect_2_7_moves_in(taken_over: Environment, tmp_path: Path) -> None:
    """The steps of docs/adopt.md; all that can be kept is there, and greetings runs on."""
    dump = old_dump(taken_over.image("postgres"), tmp_path)
    server, postgres = taken_over.name("prefect-server"), taken_over.name("postgres")
    docker("stop", server)
    anew = "dropdb --force -U prefect prefect && createdb -U prefect prefect"
    docker("exec", postgres, "sh", "-c", anew)
    with dump.open() as sql:
        argv = ["docker", "exec", "--interactive", postgres, *("psql", "-q", "-v", "ON_ERROR_STOP=1"), "-U", "prefect"]
        subprocess.run([*argv, "prefect"], stdin=sql, check=True, capture_output=True, timeout=120)
    docker("start", server)
    eventually(lambda: taken_over.health("prefect-server") == "healthy", 180)
    taken_over.apply("--refresh")

    names = [flow["name"] for flow in taken_over.http("/flows/filter", {})]
    assert "old-greetings" in names
    [old_run] = taken_over.http("/flow_runs/filter", {"flows": {"name": {"any_": ["old-greetings"]}}})
    assert old_run["state_type"] == "COMPLETED"
    assert "Finished in state Completed" in taken_over.logs(old_run["id"])
    document = taken_over.http("/block_types/slug/secret/block_documents/name/old-secret?include_secrets=true")
    assert "kept" in json.dumps(document["data"])
    assert taken_over.http("/deployments/name/old-greetings/old")["work_pool_name"] == "default-agent-pool"
    taken_over.smoke()
    taken_over.pulumi("preview", "--refresh", "--expect-no-changes", "--non-interactive")


def test_the_caddy_that_was_there_serves_it(taken_over: Environment, old: Old, tmp_path: Path) -> None:
    """By the names in its Caddyfile; a real Caddy, Debian's."""
    (tmp_path / "Caddyfile").write_text(CADDYFILE)
    (tmp_path / "Dockerfile").write_text(
        f"FROM {taken_over.image('base')}\n"
        "RUN apt-get update -qq && apt-get install -qqy --no-install-recommends caddy >/dev/null\n"
        "COPY Caddyfile /etc/caddy/Caddyfile\n"
        'CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile"]\n'
    )
    docker("build", "--quiet", "--tag", "e2e-old-caddy", str(tmp_path))
    docker("rm", "--force", "e2e-old-caddy", ok=False)
    publish = ["--publish", f"127.0.0.1:{CADDY_PORT}:80"]
    docker("run", "--detach", "--name", "e2e-old-caddy", "--network", old.networks["caddy"], *publish, "e2e-old-caddy")
    try:

        def served() -> bool:
            answers = [
                _status("tasks.example.test", "/api/health"),
                _status("storage.example.test", "/minio/health/live"),
            ]
            return answers == [200, 200]

        eventually(served, 30)
    finally:
        docker("rm", "--force", "e2e-old-caddy")
        docker("image", "rm", "e2e-old-caddy")


def _status(host: str, path: str) -> int:
    try:
        return httpx.get(f"http://127.0.0.1:{CADDY_PORT}{path}", headers={"Host": host}, timeout=5).status_code
    except httpx.HTTPError:
        return 0


def test_purge_leaves_what_was_there(taken_over: Environment, old: Old) -> None:
    before = sorted(path.relative_to(old.data).as_posix() for path in (old.data / "lake").rglob("xl.meta"))
    assert len(before) == 3
    taken_over.down("--purge")
    after = sorted(path.relative_to(old.data).as_posix() for path in (old.data / "lake").rglob("xl.meta"))
    assert after == before
    names = docker("network", "ls", "--format", "{{.Name}}").split()
    assert set(old.networks.values()) <= set(names)
    old.dask.pulumi("preview", "--refresh", "--expect-no-changes", "--non-interactive")
