"""Two stacks on two remote hosts over ssh, then on one; and what is done to hosts and their keys.

The stacks are the examples that ship, in one clone, with other hosts and images (and fewer Dask workers): `staging`
builds its own, `prod` pulls them from a registry, until it moves and builds them, too.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.conftest import serving_images
from tests.e2e.environment import NAMESPACE, Environment, clone_and_home, eventually, kill_with_pulumi, run, shipped
from tests.e2e.hosts import REGISTRY_PORT, Host, host_settings, hosts
from tests.e2e.test_status import FLOW, INTERRUPTED, problems

pytestmark = pytest.mark.xdist_group("remote")

DATA = ("backup-work", "minio-data", "postgres-data")
LIMIT_SECONDS = 45.0
"""How long what meets a dead host may take in all, on a busy machine; ssh gives up after 5 s, and is tried twice."""


@dataclass(frozen=True)
class Remote:
    alpha: Host
    beta: Host
    registry: str
    staging: Environment
    """On alpha."""
    prod: Environment
    """On beta, until it moves to alpha."""
    runs: set[str] = field(default_factory=set)
    """Ids of flow runs that prod has completed."""

    def ssh_processes(self) -> dict[int, str]:
        """Pid and command of every ssh of this machine to the hosts."""
        found = {}
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = file.read_bytes().decode().split("\0")
            except OSError:
                continue  # It has ended meanwhile.
            if words[0].endswith("ssh") and any(host.private_address in " ".join(words) for host in self.hosts):
                found[int(file.parent.name)] = " ".join(words)
        return found

    @property
    def hosts(self) -> list[Host]:
        return [self.alpha, self.beta]

    def assert_no_ssh_is_left(self) -> None:
        """ssh ends with whoever started it; a moment for those whose pipe has just been closed."""
        eventually(lambda: not self.ssh_processes(), 15)


@pytest.fixture(scope="module", name="remote")
def _remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    directory = tmp_path_factory.mktemp("remote")
    root, home = clone_and_home(directory)
    with hosts(directory, "alpha", "beta") as (alpha, beta):
        staging = Environment(root, "staging", home, shipped(root, "staging"), alpha.docker)
        prod = Environment(root, "prod", home, shipped(root, "prod"), beta.docker)
        staging.write_settings(host=host_settings(alpha), images={"source": "build"}, port_offset=700)
        registry = directory / "registry"
        registry.mkdir()
        with serving_images(registry, f"{alpha.operator_address}:{REGISTRY_PORT}") as address:
            yield Remote(alpha, beta, address, staging, prod)


def containers(env: Environment) -> dict[str, str]:
    """Name of each container of a stack to its id and when it was started."""
    names = env.objects("container")
    listed = env.docker("inspect", "--format", "{{.Name}} {{.Id}} {{.State.StartedAt}}", *names)
    return dict(line.split(" ", 1) for line in listed.splitlines())


def assert_converged(env: Environment) -> None:
    env.pulumi("preview", "--refresh", "--expect-no-changes", "--non-interactive")


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < seconds


# Two hosts, two stacks.


def test_staging_comes_up_over_ssh(remote: Remote) -> None:
    text = remote.staging.up().text
    assert "greetings/test-deployment is Completed, and so is every task, on Dask" in text
    assert "a password is required" in remote.alpha.ssh("sudo", "-n", "true", ok=False).text, "ops is no administrator"
    remote.assert_no_ssh_is_left()

    [from_afar] = re.findall(r"^from afar +(ssh .+)$", text, re.MULTILINE)
    with subprocess.Popen([*shlex.split(from_afar), "-o", "BatchMode=yes"], cwd=remote.staging.root) as forward:
        try:
            assert eventually(lambda: counted(remote.staging), 20) > 0
        finally:
            forward.terminate()


def counted(env: Environment) -> int:
    """Flow runs that the API tells of; 0 while it can't be reached."""
    import httpx

    try:
        return int(env.http("/flow_runs/count", {}))
    except httpx.TransportError:
        return 0


def test_an_operator_sees_it_and_gets_in_from_afar(remote: Remote) -> None:
    staging, alpha = remote.staging, remote.alpha
    # Asked again: a scheduler counts its workers a little later than scripts/up is done.
    end = time.monotonic() + 60
    while (seen := problems(staging)) and time.monotonic() < end:
        time.sleep(1)
    assert seen == []
    shown = staging.run("scripts/status", "--stack", "staging", ok=False).text
    assert f"host           {alpha.address}, engine " in shown

    argv = ["scripts/logs", "prefect-server", "-f", "--since", "5m", "--stack", "staging"]
    with subprocess.Popen(argv, cwd=staging.root, env=staging.env, stdout=subprocess.PIPE, text=True) as following:
        alpha.docker("exec", staging.name("prefect-server"), "sh", "-c", "echo a new line >/proc/1/fd/1")
        assert following.stdout
        assert any(line == "a new line\n" for line in following.stdout)
        following.send_signal(signal.SIGINT)
    assert following.returncode == 130
    remote.assert_no_ssh_is_left()
    eventually(lambda: "docker logs" not in alpha.run("ps", "-eo", "args"), 15)

    connect = ["scripts/connect", "--stack", "staging"]
    assert "doubled 42" in staging.run(*connect, "--", ".venv/bin/python", "-c", FLOW).text
    remote.assert_no_ssh_is_left()
    argv = [*connect, "--", ".venv/bin/python", "-c", INTERRUPTED]
    with subprocess.Popen(
        argv, cwd=staging.root, env=staging.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as running:  # fmt: skip
        assert running.stdout
        assert running.stdout.readline() == "ready\n"
        os.killpg(running.pid, signal.SIGINT)
        assert running.stdout.read() == "still there\n", "a terminal interrupts all, and no way is lost"
    remote.assert_no_ssh_is_left()
    with subprocess.Popen(
        connect, cwd=staging.root, env=staging.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as open_:
        assert open_.stdout
        assert open_.stderr
        assert any(line.startswith("Open until") for line in open_.stdout)
        forwards = [pid for pid, command in remote.ssh_processes().items() if ":127.0.0.1:4900" in command]
        os.kill(forwards[0], signal.SIGTERM)
        assert open_.stderr.readline() == "✗ the way to Prefect is lost\n"
        assert "Prefect is at http://127.0.0.1:" in open_.stderr.readline()
        open_.send_signal(signal.SIGINT)
    assert open_.returncode == 0
    remote.assert_no_ssh_is_left()


def test_nothing_listens_beyond_the_hosts_loopback(remote: Remote) -> None:
    listening = remote.alpha.run("ss", "--listening", "--tcp", "--udp", "--numeric", "--no-header").splitlines()
    # 127.0.0.11 is the name server that the outer engine gives to the container which the host is.
    open_to_all = {address for line in listening if not (address := line.split()[4]).startswith(("127.0.0.", "[::1]"))}
    assert open_to_all == {"0.0.0.0:22", "[::]:22"}


def test_no_other_user_of_the_host_can_read_a_secret(remote: Remote) -> None:
    shown = remote.staging.pulumi("stack", "export", "--show-secrets").text
    secrets = set(re.findall(r'"plaintext": "\\"([^"\\]{16,})\\""', shown))
    assert len(secrets) >= 4
    words = [word for secret in secrets for word in ("-e", secret)]
    search = ["grep", "--recursive", "--files-with-matches", "--null", "--fixed-strings", "--devices=skip", *words]
    places = ["/etc", "/home", "/root", "/run", "/srv", "/var"]

    def found(*user: str) -> list[str]:
        return [file for file in remote.alpha.run(*user, *search, *places, ok=False).split("\0") if file[:1] == "/"]

    assert found("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups") == []
    assert found(), "the administrator of the host can, so there is something to find"


def test_a_second_up_changes_nothing(remote: Remote) -> None:
    before = containers(remote.staging)
    text = remote.staging.up().text
    assert re.search(r"\d+ unchanged", text)
    assert not re.search(r"[+~-]+\d* ?\d+ (created|updated|replaced|deleted)", text), text
    assert containers(remote.staging) == before
    assert_converged(remote.staging)


def test_prod_comes_up_on_the_other_host_through_a_jump_from_pulled_images(remote: Remote) -> None:
    staging, prod = remote.staging, remote.prod
    through_alpha = [*remote.alpha.ssh_words, "-W", "%h:%p", f"ops@{remote.alpha.private_address}"]
    prod.write_settings(
        host=host_settings(remote.beta, ProxyCommand=shlex.join(through_alpha)),
        dask={"workers": 1},
        images={
            "source": "registry",
            # With what the worker needs already in it, since building that once is enough.
            "prefect": staging.push("worker", f"{remote.registry}/prefecthq/prefect:3.8.8").partition("@")[0],
            "postgres": staging.push("postgres", f"{remote.registry}/library/postgres:15.0-bookworm"),
            "minio": staging.push("minio", f"{remote.registry}/pgsty/silo:RELEASE"),
        },
        backup={"mode": "managed", "directory": "/srv/backup"},
    )
    before = containers(staging)
    assert "Completed, and so is every task" in prod.up().text
    for name in ("postgres", "minio"):
        running = prod.docker("inspect", "--format", "{{.Image}}", prod.name(name))
        assert running == prod.docker("image", "inspect", "--format", "{{.Id}}", prod.settings["images"][name])
    assert containers(staging) == before
    assert staging.docker("ps", "--quiet", "--filter", f"label={NAMESPACE}.stack=prod") == ""


def test_another_address_is_refused_while_the_data_is_on_the_old_host(remote: Remote) -> None:
    remote.prod.write_settings(host=host_settings(remote.alpha))
    refused = remote.prod.pulumi("preview", "--non-interactive", ok=False)
    assert refused.code != 0
    assert remote.beta.private_address in refused.text, "where its data is"
    assert "host.address" in refused.text


def test_it_moves_there_as_another_stack_and_each_goes_alone(remote: Remote) -> None:
    staging, prod = remote.staging, remote.prod
    prod.write_settings(host=host_settings(remote.beta))
    # Built images: another source is refused where data is.
    moved = Environment(prod.root, "prod2", prod.home, dict(prod.settings), remote.alpha.docker)
    moved.write_settings(host=host_settings(remote.alpha), images={"source": "build"})
    before, run_before = containers(staging), history(prod)
    remote.runs.update(completed(prod))
    prod.secret("backup_password")
    text = prod.run("scripts/move", "--stack", "prod", "--to", "prod2", "--yes").text
    assert "Completed, and so is every task" in text
    assert history(moved) == run_before + 1, "its own smoke test"
    assert re.search(r"✓ prod lives on as prod2\.\nThe way back.* scripts/down --stack prod2, scripts/up ", text)
    assert_converged(moved)
    assert prod.objects("container") == []
    assert sorted(prod.objects("volume")) == [prod.name(each) for each in DATA]
    prod.down("--purge")
    left = {kind: prod.objects(kind) for kind in ("container", "network", "volume", "image")}
    assert left == {"container": [], "network": [], "volume": [], "image": []}

    assert containers(staging) == before
    assert set(moved.objects("network")).isdisjoint(staging.objects("network"))
    staging.smoke()
    beside = containers(moved)
    staging.down()
    assert staging.objects("container") == []
    assert containers(moved) == beside
    moved.smoke()
    moved.down("--purge")
    assert moved.objects("volume") == []
    assert sorted(staging.objects("volume")) == [staging.name("minio-data"), staging.name("postgres-data")]


def completed(env: Environment) -> set[str]:
    """Ids of the flow runs that its database has."""
    query = "SELECT id FROM flow_run WHERE state_type = 'COMPLETED'"
    psql = ("psql", "-U", "prefect", "-d", "prefect", "-XAtc", query)
    return set(env.docker("exec", env.name("postgres"), *psql).split())


def test_an_empty_host_gets_it_all_back(remote: Remote) -> None:
    """What was left of prod is its target, and its password, which somebody has kept."""
    prod, password = remote.prod, remote.prod.secrets.pop("backup_password")
    prod.write_settings()
    prod.up()
    assert remote.runs
    assert completed(prod).isdisjoint(remote.runs)
    prod.pulumi("config", "set", "--secret", "--path", f"{NAMESPACE}:backup.password", password)
    prod.apply()
    prod.run("scripts/restore", "--stack", "prod", "--yes")
    assert remote.runs <= completed(prod)
    prod.smoke()
    prod.down("--purge")


def history(env: Environment) -> int:
    """How many flow runs the stack's database has."""
    told = env.docker("exec", env.name("backup"), "backup", "contents")
    return int(re.findall(r"^flow runs: (\d+)$", told, re.MULTILINE)[0])


# What is done to them: staging is down, its data is there.


def test_a_host_that_freezes_in_the_middle_of_up_is_an_error(remote: Remote) -> None:
    with remote.staging.up_started() as started:
        eventually(lambda: len(remote.staging.objects("container")) > 2, 120)
        remote.alpha.pause()
        try:
            with at_most(LIMIT_SECONDS):
                started.wait(120)
        finally:
            remote.alpha.unpause()
    assert started.returncode != 0
    assert remote.alpha.private_address in remote.staging.up_output()
    remote.assert_no_ssh_is_left()


def test_a_killed_up_leaves_no_ssh_and_the_next_one_survives_a_cut(remote: Remote) -> None:
    staging = remote.staging
    with staging.up_started() as started:
        eventually(lambda: "creating" in staging.up_output() and remote.ssh_processes(), 120)
        kill_with_pulumi(started)
    remote.assert_no_ssh_is_left()

    with staging.up_started() as started:
        forwards = eventually(
            lambda: [pid for pid, command in remote.ssh_processes().items() if " -L " in command], 120
        )
        os.kill(forwards[0], signal.SIGTERM)
        remote.alpha.cut()
        time.sleep(3)
        remote.alpha.restore()
        started.wait(300)
    text = staging.up_output()
    assert started.returncode == 0, text
    assert re.search(r"lock of a dead process taken away \(\S+@\S+, process \d+, \d+ min ago\)", text)
    assert "greetings/test-deployment is Completed" in text
    remote.assert_no_ssh_is_left()
    assert_converged(staging)


def test_a_frozen_host_is_an_error_before_anything_is_done(remote: Remote) -> None:
    remote.alpha.pause()
    try:
        with at_most(LIMIT_SECONDS):
            preview = remote.staging.pulumi("preview", "--non-interactive", ok=False)
        with at_most(LIMIT_SECONDS):
            up = remote.staging.up(ok=False)
        with at_most(LIMIT_SECONDS):
            look = remote.staging.run("scripts/status", "--stack", "staging", ok=False)
    finally:
        remote.alpha.unpause()
    assert look.code == 2
    assert "the host does not answer over ssh" in look.text
    assert preview.code != 0
    assert f"{remote.alpha.private_address} port 22 timed out" in preview.text
    assert up.code != 0
    assert "the host does not answer over ssh" in up.text
    remote.assert_no_ssh_is_left()


@pytest.mark.parametrize(
    ("option", "file", "words"),
    [
        ("IdentityFile", "stranger", ["the host refused our key", "ssh-add"]),
        ("UserKnownHostsFile", "nobody", ["the host's key is not known here", "compare the fingerprint"]),
    ],
)
def test_a_key_that_is_not_known_is_an_error(
    remote: Remote, tmp_path: Path, option: str, file: str, words: list[str]
) -> None:
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "stranger"], tmp_path, os.environ)
    (tmp_path / "nobody").touch()
    remote.staging.write_settings(host=host_settings(remote.alpha, **{option: str(tmp_path / file)}))
    try:
        with at_most(LIMIT_SECONDS):
            refused = remote.staging.up(ok=False)
    finally:
        remote.staging.write_settings(host=host_settings(remote.alpha))
    assert refused.code != 0
    for each in words:
        assert each in refused.text


def test_a_changed_host_key_is_an_error_and_what_it_says_to_run_helps(remote: Remote) -> None:
    before = containers(remote.staging)
    remote.alpha.new_host_key()
    refused = eventually(lambda: (up := remote.staging.up(ok=False)).code and up.text, 5)
    assert "is not the one that is known" in refused
    [command] = re.findall(r"`(ssh-keygen -[^`]+)`", refused)
    run(shlex.split(command), remote.staging.root, os.environ)
    unknown = remote.staging.up(ok=False).text
    assert "the host's key is not known here" in unknown
    remote.alpha.trust()
    assert_converged(remote.staging)
    assert containers(remote.staging) == before


def test_containers_come_back_when_the_power_does(remote: Remote) -> None:
    remote.alpha.reboot(power_cut=True)
    remote.staging.smoke("--timeout", "120")
    assert_converged(remote.staging)


def test_purge_leaves_nothing(remote: Remote) -> None:
    remote.staging.down("--purge")
    for kind in ("container", "network", "volume"):
        assert remote.staging.objects(kind) == []
    # What prod pulled stays, as anybody's may, and bears the label that staging built it with.
    assert [image for image in remote.staging.objects("image") if not image.startswith(remote.registry)] == []
    remote.assert_no_ssh_is_left()
