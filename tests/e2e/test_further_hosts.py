"""A stack on two hosts, beside it one whose database and S3 store are somebody else's, and a neighbour who scans.

`far` runs its Prefect worker and a Dask worker on the second host. `guest`, on the first, shares a network with it.
Both are of one clone. The hosts have the firewall that host preparation gives to engines like theirs.
"""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import urllib3
import yaml
from minio import Minio, MinioAdmin
from minio.credentials.providers import StaticProvider

from tests.e2e.certificates import certificates
from tests.e2e.environment import NAMESPACE, ROOT, Environment, clone_and_home, docker, eventually, shipped
from tests.e2e.hosts import Host, hosts, scanned

pytestmark = pytest.mark.xdist_group("further")

SHARED: Final = "shared-network"
BUCKET: Final = "their-flows"
ACCESS_KEY: Final = "their-access-key"
SECRETS: Final = {"minio.external.secret_key": "their-secret-key", "postgres.external.password": "their-password"}
STORE_PORT: Final = 9900
DATABASE_PORT: Final = 5400
OPENED: Final = {
    "server.port": 4200,
    "dask.scheduler_port": 8786,
    "dask.worker_port": 8800,
    "minio.api_port": 9000,
}
"""What the settings of `far` open on the private network, on the first host."""
SSH: Final = 22


@dataclass(frozen=True)
class Site:
    certificates: Path
    """Of whoever serves at the first host's address."""
    first: Host
    second: Host
    neighbour: Host
    far: Environment
    guest: Environment


@pytest.fixture(scope="module", name="site")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("further")
    root, home = clone_and_home(directory)
    settings = shipped(root, "dev-mirror")
    with hosts(directory, "first", "second", "neighbour") as (first, second, neighbour):
        for host in (first, second):
            firewall(host)
        first.docker("network", "create", SHARED)
        certificates(directory, f"IP:{first.private_address}")
        (root / "their-ca.pem").write_bytes((directory / "ca.crt").read_bytes())
        # The same for both stacks, so that the second one's builds are in the engine's cache.
        settings["images"] = {"source": "build", "ca_bundle": "their-ca.pem"}
        far = Environment(root, "far", home, dict(settings), first.docker)
        guest = Environment(root, "guest", home, dict(settings), first.docker)
        yield Site(directory, first, second, neighbour, far, guest)


def firewall(host: Host) -> None:
    """What host preparation does for engines before 28."""
    docker("cp", str(ROOT / "components" / "host_firewall.sh"), f"{host.container}:/usr/local/sbin/firewall")
    host.run("sh", "/usr/local/sbin/firewall")


def reached(host: Host) -> dict[str, Any]:
    """Settings of a host."""
    return {"address": host.address, "ssh_options": host.ssh_options, "private_address": host.private_address}


def containers(host: Host, env: Environment) -> list[str]:
    """Logical names of a stack's containers on a host."""
    listed = host.docker("ps", "--all", "--filter", f"label={NAMESPACE}.stack={env.stack}", "--format", "{{.Names}}")
    return sorted(name.removeprefix(env.prefix) for name in listed.split())


def python(host: Host, container: str, file: Path, *words: str) -> str:
    """Output of a Python program in a container on a host."""
    into = ["docker", "exec", "--interactive"]
    argv = [*into, host.container, *into, container, "python", "-", *words]
    with file.open("rb") as program:
        return subprocess.run(argv, stdin=program, stdout=subprocess.PIPE, text=True, timeout=120, check=True).stdout


# Two hosts.


def test_greetings_run_across_two_hosts(site: Site) -> None:
    site.far.write_settings(
        host=reached(site.first),
        hosts={"second": {**reached(site.second), "dask_workers": 1}},
        networks={"dask": {"external": SHARED}},
        workers={"dask": {"pool": "dask-pool", "queues": ["dask-queue"], "host": "second"}},
        dask={"workers": 1},
    )
    text = site.far.up().text
    assert "greetings/test-deployment is Completed, and so is every task, on Dask" in text
    assert containers(site.second, site.far) == ["dask-worker-second-1", "prefect-worker-dask-1"]
    assert "dask-worker-1" in containers(site.first, site.far)
    images = site.second.docker("image", "ls", "--format", "{{.Repository}}", "--filter", f"label={NAMESPACE}.stack")
    assert {name.rpartition("/")[2] for name in images.split()} == {"base", "prefect", "worker"}
    site.far.pulumi("preview", "--refresh", "--expect-no-changes", "--non-interactive")


def test_results_pass_between_workers_of_two_hosts(site: Site) -> None:
    here, there = site.far.name("dask-worker-1"), site.far.name("dask-worker-second-1")
    scheduler = f"{site.first.private_address}:{OPENED['dask.scheduler_port']}"
    said = python(site.first, here, ROOT / "tests" / "e2e" / "across.py", scheduler)
    assert sorted(said.splitlines()) == sorted(f"{a} {b}" for a in (here, there) for b in (here, there))


def test_a_neighbour_finds_what_the_settings_open_and_ssh(site: Site) -> None:
    first, second = site.first, site.second
    assert scanned(site.neighbour, first.private_address, first.private_address, "127.0.0.1") == {
        first.private_address: {SSH, *OPENED.values()},
        "127.0.0.1": set(),
    }
    assert scanned(site.neighbour, second.private_address, second.private_address, "127.0.0.1") == {
        second.private_address: {SSH, OPENED["dask.worker_port"]},
        "127.0.0.1": set(),
    }
    for host in (first, second):
        six = host.private_address6
        assert scanned(site.neighbour, six, six, "::1") == {six: {SSH}, "::1": set()}


def test_workers_of_the_second_host_alone_run_greetings(site: Site) -> None:
    site.first.docker("stop", "--time", "1", site.far.name("dask-worker-1"))
    try:
        site.far.smoke()
    finally:
        site.first.docker("start", site.far.name("dask-worker-1"))


# A stack with another's database and S3 store, over TLS.


@dataclass(frozen=True)
class Theirs:
    s3: Minio
    """As the owner of the store."""
    query: Callable[[str], str]
    """Runs a line of SQL in the database; its output."""


@pytest.fixture(scope="module", name="theirs")
def _theirs(site: Site) -> Theirs:
    """A MinIO and a Postgres that no stack knows, on the first host; with the images of `far`."""
    address = site.first.private_address
    site.first.run("mkdir", "/certificates")
    for name in ("public.crt", "private.key"):
        docker("cp", str(site.certificates / name), f"{site.first.container}:/certificates/")
    start = ["run", "--detach", "--volume", "/certificates:/given:ro"]
    site.first.docker(
        *(*start, "--name", "their-store", "--publish", f"{address}:{STORE_PORT}:9000"),
        *("--env", "MINIO_ROOT_USER=their-root", "--env", "MINIO_ROOT_PASSWORD=their-root-password"),
        *(site.far.image("minio"), "server", "--certs-dir", "/given", "/data"),
    )
    secure = "install -o postgres -m 0600 /given/private.key /key && exec docker-entrypoint.sh postgres -c ssl=on"
    site.first.docker(
        *(*start, "--name", "their-database", "--publish", f"{address}:{DATABASE_PORT}:5432"),
        *("--env", "POSTGRES_USER=their_user", "--env", f"POSTGRES_PASSWORD={SECRETS['postgres.external.password']}"),
        *("--env", "POSTGRES_DB=their_database", "--entrypoint", "sh", site.far.image("postgres")),
        *("-c", f"{secure} -c ssl_cert_file=/given/public.crt -c ssl_key_file=/key"),
    )
    pool = urllib3.PoolManager(ca_certs=str(site.certificates / "ca.crt"))
    endpoint, root = f"{address}:{STORE_PORT}", ("their-root", "their-root-password")

    def answers() -> bool:
        try:
            return pool.request("GET", f"https://{endpoint}/minio/health/live", retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    eventually(answers, 30)
    s3 = Minio(endpoint, *root, http_client=pool)
    admin = MinioAdmin(endpoint=endpoint, credentials=StaticProvider(*root), http_client=pool)
    s3.make_bucket(BUCKET)
    s3.put_object(BUCKET, "theirs", io.BytesIO(b"theirs"), 6)
    allowed = {
        "Effect": "Allow",
        "Action": ["s3:*"],
        "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
    }
    admin.user_add(ACCESS_KEY, SECRETS["minio.external.secret_key"])
    admin.policy_add("theirs", policy={"Version": "2012-10-17", "Statement": [allowed]})
    admin.attach_policy(["theirs"], user=ACCESS_KEY)

    def query(sql: str) -> str:
        words = ["psql", "-U", "their_user", "-d", "their_database", "-Atc", sql]
        return site.first.docker("exec", "--user", "postgres", "their-database", *words)

    return Theirs(s3, query)


def test_a_stack_uses_a_database_and_a_store_that_are_there(site: Site, theirs: Theirs) -> None:
    endpoint, guest = f"https://{site.first.private_address}:{STORE_PORT}", site.guest
    external = {"host": site.first.private_address, "port": DATABASE_PORT, "user": "their_user"}
    guest.write_settings(
        host={key: value for key, value in reached(site.first).items() if key != "private_address"},
        port_offset=1000,
        networks={"dask": {"external": SHARED}},
        minio={
            "mode": "external", "bucket": BUCKET, "external": {"endpoint": endpoint, "access_key": ACCESS_KEY}
        },
        postgres={"mode": "external", "external": {**external, "database": "their_database"}},
        profiles={"cli": False},
        dask={"workers": 1},
    )  # fmt: skip
    guest.run("scripts/pulumi", "stack", "init", guest.stack, "--non-interactive")
    for path, secret in SECRETS.items():
        guest.pulumi("config", "set", "--secret", "--path", f"{NAMESPACE}:{path}", secret)
    assert "greetings/test-deployment is Completed" in guest.up().text
    theirs_are_not_made = ["dask-scheduler", "dask-worker-1", "prefect-api", "prefect-server", "prefect-worker-dask-1"]
    assert containers(site.first, guest) == theirs_are_not_made
    assert guest.objects("volume") == []
    assert theirs.query("select count(*) from flow_run") == "1"
    encrypted = "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where client_addr is not null"
    assert theirs.query(encrypted) == "t"
    objects = {each.object_name or "" for each in theirs.s3.list_objects(BUCKET, recursive=True)}
    assert any(name.startswith("greetings/") for name in objects)
    assert len(objects - {"theirs"}) > 1, "results are kept there, too"
    exported = guest.pulumi("stack", "export").text + (guest.root / f"Pulumi.{guest.stack}.yaml").read_text()
    assert not [secret for secret in SECRETS.values() if secret in exported]
    guest.pulumi("preview", "--refresh", "--expect-no-changes", "--non-interactive")


def test_stacks_that_share_a_network_never_answer_for_each_other(site: Site) -> None:
    look = ROOT / "tests" / "e2e" / "resolve.py"
    inspect = f'{{{{(index .NetworkSettings.Networks "{SHARED}").IPAddress}}}}'
    for env in (site.far, site.guest):
        own = [env.name("dask-scheduler"), env.name("prefect-api"), env.name("prefect-server")]
        short = ["scheduler", "dask-scheduler", "minio", "prefect-api", "prefect-server", "postgres"]
        found = python(site.first, env.name("dask-worker-1"), look, *own, *short).splitlines()
        assert found == [f"{name} {site.first.docker('inspect', '--format', inspect, name)}" for name in own]


# What previews refuse, and the ways back.


@contextmanager
def without_postgres(env: Environment) -> Iterator[None]:
    """The stack's YAML without `postgres`, which makes it managed; with everything that Pulumi wrote there."""
    file = env.root / f"Pulumi.{env.stack}.yaml"
    as_set = file.read_text()
    content = yaml.safe_load(as_set)
    del content["config"][f"{NAMESPACE}:postgres"]
    file.write_text(yaml.safe_dump(content))
    try:
        yield
    finally:
        file.write_text(as_set)


def test_a_preview_refuses_to_leave_data_behind(site: Site) -> None:
    with without_postgres(site.guest):
        refused = site.guest.pulumi("preview", "--non-interactive", ok=False)
    assert refused.code != 0
    assert "postgres.mode from external to none" in refused.text
    assert "Nothing was changed. Set it back" in refused.text
    site.guest.pulumi("preview", "--expect-no-changes", "--non-interactive")


def test_a_preview_refuses_another_address_of_a_further_host(site: Site) -> None:
    hosts_before = site.far.settings["hosts"]
    elsewhere = {**hosts_before["second"], "address": site.neighbour.address}
    site.far.write_settings(hosts={"second": elsewhere})
    refused = site.far.pulumi("preview", "--non-interactive", ok=False)
    site.far.write_settings(hosts=hosts_before)
    assert refused.code != 0
    assert "remove hosts.second, run `scripts/up`, and name the new host" in refused.text


def test_a_switch_is_free_once_the_agreement_is_taken_out_of_the_state(site: Site) -> None:
    """The steps of docs/external-servers.md, but for the copying."""
    site.guest.down()
    site.guest.pulumi("state", "unprotect", "--all", "--yes")
    agreement = site.guest.urn("DataContract", "postgres-data-terms")
    site.guest.pulumi("state", "delete", agreement, "--target-dependents", "--yes")
    with without_postgres(site.guest):
        site.guest.pulumi("preview", "--non-interactive")


def test_a_stack_that_goes_leaves_what_is_theirs(site: Site, theirs: Theirs) -> None:
    site.guest.down("--purge")
    assert containers(site.first, site.guest) == []
    assert theirs.query("select count(*) from flow_run") == "1"
    objects = [each.object_name or "" for each in theirs.s3.list_objects(BUCKET, recursive=True)]
    assert "theirs" in objects, "what was there before"
    assert len(objects) > 1, "results of flow runs"
    assert not [name for name in objects if name.startswith("greetings/")], "the stack's own"


def test_what_ran_on_a_host_that_is_removed_runs_on_the_first(site: Site) -> None:
    site.far.write_settings(
        host={key: value for key, value in reached(site.first).items() if key != "private_address"},
        hosts=None,
        workers={"dask": {"pool": "dask-pool", "queues": ["dask-queue"]}},
    )
    assert "greetings/test-deployment is Completed" in site.far.up().text
    assert containers(site.second, site.far) == []
    assert "second-host" not in site.second.docker("network", "ls")
    assert {"dask-worker-1", "prefect-worker-dask-1"} <= {*containers(site.first, site.far)}
    listening = site.first.run("ss", "--listening", "--tcp", "--numeric", "--no-header")
    assert f"{site.first.private_address}:{OPENED['server.port']}" not in listening
