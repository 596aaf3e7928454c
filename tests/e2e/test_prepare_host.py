"""A machine as it comes out of an installation becomes a Docker host, and closes to its neighbours."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from components.host_preparation import launch, preparation
from providers.ssh import ssh_host
from scripts.lib.tools import plugin_installed
from tests.e2e.environment import ROOT, Done, environment, eventually
from tests.e2e.hosts import ADMIN, USER, Host, hosts, scanned
from toolchain.artefacts import artefact

pytestmark = pytest.mark.xdist_group("prepare-host")
DATA = PurePosixPath("/srv/a b/data")
FIREWALL = "prefect-environment-firewall"
DAEMON_JSON = '{"log-opts": {"max-size": "1m"}}'
"""What an administrator has set before."""
SECOND_RUN_SECONDS = 15


def prepare(
    host: Host, user: str = ADMIN, *, private: str | None = None, check: bool = False, now: float | None = None
) -> Done:
    """Send the script as Pulumi and scripts/prepare-host do."""
    return sent(preparation(DATA, private, check=check), host, user, now)


def sent(text: str, host: Host, user: str = ADMIN, now: float | None = None) -> Done:
    argv = [*launch(ssh_host(host.endpoint(user), host.ssh_options)), str(int(now or time.time()))]
    done = subprocess.run(
        argv, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False
    )
    return Done(done.returncode, done.stdout)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    """Fresh machines: one to prepare, one beside it, and one more."""
    with hosts(tmp_path_factory.mktemp("hosts"), "fresh", "neighbour", "other", bare=True) as made:
        yield made


@pytest.fixture(scope="module")
def fresh(machines: list[Host]) -> Host:
    return machines[0]


@pytest.fixture(scope="module")
def first_run(fresh: Host) -> Done:
    fresh.run("sh", "-c", f"mkdir -p /etc/docker && echo '{DAEMON_JSON}' > /etc/docker/daemon.json")
    return prepare(fresh)


@pytest.fixture(scope="module")
def prepared(fresh: Host, first_run: Done) -> Host:
    assert first_run.code == 0, first_run.text
    return fresh


def untouched(host: Host) -> bool:
    return not host.run("sh", "-c", f"command -v dockerd; ls {FIREWALL} '{DATA}' 2>/dev/null", ok=False)


# Before anything is done.


def test_who_may_not_sudo_is_told_in_one_line_what_to_run(fresh: Host) -> None:
    done = prepare(fresh, USER)
    assert done.code == 1
    assert done.text.count("\n") == 1
    assert f"echo '{USER} ALL=(ALL) NOPASSWD: ALL' | sudo tee /etc/sudoers.d/{USER}" in done.text
    assert untouched(fresh)


def test_a_check_lists_what_is_missing_and_changes_nothing(fresh: Host) -> None:
    done = prepare(fresh, check=True)
    assert done.code == 1
    for what in ("Docker engine installed", "group docker", f"directory {DATA} made", f"{FIREWALL}.service enabled"):
        assert re.search(f"^missing: .*{re.escape(what)}", done.text, re.MULTILINE), done.text
    assert "changed:" not in done.text
    assert untouched(fresh)


def test_another_system_is_refused(fresh: Host) -> None:
    fresh.run(
        "sh", "-c", "cp --remove-destination /usr/lib/os-release /etc/os-release; sed -i s/12/11/ /etc/os-release"
    )
    try:
        done = prepare(fresh)
    finally:
        fresh.run("ln", "-sf", "../usr/lib/os-release", "/etc/os-release")
    assert done.code == 1
    assert "Debian 12 and 13, Ubuntu 22.04 and 24.04" in done.text
    assert untouched(fresh)


def test_a_small_disk_is_refused(fresh: Host) -> None:
    fresh.run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/var/lib/docker")
    try:
        done = prepare(fresh)
    finally:
        fresh.run("umount", "/var/lib/docker")
    assert done.code == 1
    assert "only 64 MiB are free for /var/lib/docker" in done.text
    assert untouched(fresh)


@pytest.mark.parametrize("apart", [-3600, 3600])
def test_clocks_that_differ_are_refused(fresh: Host, apart: int) -> None:
    done = prepare(fresh, now=time.time() + apart)
    assert done.code == 1
    assert re.search(r"are 3(59|60)\d s apart", done.text)
    assert "timedatectl set-ntp true" in done.text
    assert untouched(fresh)


def test_a_failing_command_is_shown_without_credentials(fresh: Host) -> None:
    hook = "/etc/apt/apt.conf.d/failing"
    fresh.run(
        "sh", "-c", f"""echo 'APT::Update::Pre-Invoke {{"echo at http://me:s3cret@mirror/; false";}};' > {hook}"""
    )
    try:
        done = prepare(fresh)
    finally:
        fresh.run("rm", hook)
    assert done.code == 1
    assert "at http://***@mirror/" in done.text
    assert "`apt-get update` failed" in done.text
    assert "s3cret" not in done.text


# The preparation itself.


def test_the_engine_is_installed_for_the_user(prepared: Host, first_run: Done) -> None:
    assert "changed: Docker engine installed" in first_run.text
    assert first_run.text.endswith("ready\n")
    assert (
        prepared.ssh("docker", "info", "--format", "{{.DockerRootDir}}", user=ADMIN).text.strip() == "/var/lib/docker"
    )
    assert prepared.ssh("docker", "version", ok=False).code != 0, "only who signed in may use it"
    assert prepared.run("stat", "-c", "%a %U", str(DATA)) == "700 root"
    assert prepared.run("cat", "/etc/docker/daemon.json") == DAEMON_JSON


def test_a_second_run_changes_nothing_and_is_fast(prepared: Host) -> None:
    files = f"stat -c '%n %i %z' /usr/local/sbin/{FIREWALL} /etc/systemd/system/{FIREWALL}.service '{DATA}' /etc/group"
    rules = "iptables-save -c | wc -l; iptables -S; iptables -t raw -S; ip6tables -S; pidof dockerd"
    state = prepared.run("sh", "-c", f"{files}; {rules}")
    start = time.monotonic()
    done = prepare(prepared)
    assert time.monotonic() - start < SECOND_RUN_SECONDS
    assert done.code == 0, done.text
    assert "changed:" not in done.text
    assert prepare(prepared, check=True).code == 0
    assert prepared.run("sh", "-c", f"{files}; {rules}") == state


PACKAGES = """
set -e
apt-get update -qq
apt-get install -y -qq --no-install-recommends gpg gpg-agent apt-utils
gpg --batch --quiet --passphrase '' --quick-generate-key tests
mkdir -p /site/linux/debian/pool /site/linux/debian/dists/bookworm/stable/binary-$(dpkg --print-architecture)
cd /site/linux/debian
for name in docker-ce-cli containerd.io; do
  mkdir -p /tmp/$name/DEBIAN
  printf 'Package: %s\\nVersion: 1\\nArchitecture: all\\nMaintainer: tests\\nDescription: none\\n' \
    $name > /tmp/$name/DEBIAN/control
  dpkg-deb --build /tmp/$name pool
done
(cd /tmp && apt-get download -qq docker.io && dpkg-deb --raw-extract docker.io_*.deb docker-ce)
sed -i '/^Conflicts:/d; /^Breaks:/d; /^Replaces:/d; s/^Package:.*/Package: docker-ce/' /tmp/docker-ce/DEBIAN/control
dpkg-deb -Znone --build /tmp/docker-ce pool
apt-ftparchive packages pool > dists/bookworm/stable/binary-$(dpkg --print-architecture)/Packages
apt-ftparchive -o APT::FTPArchive::Release::Codename=bookworm -o APT::FTPArchive::Release::Components=stable \
  release dists/bookworm > Release
mv Release dists/bookworm/
gpg --batch --clearsign --output dists/bookworm/InRelease dists/bookworm/Release
gpg --armor --export > gpg
"""
"""Makes a site like Docker's own, with the distribution's engine under its names."""


def test_dockers_own_packages_are_taken_if_their_key_is_the_known_one(machines: list[Host]) -> None:
    _, neighbour, other = machines
    neighbour.run("sh", "-c", PACKAGES)
    subprocess.run(
        ["docker", "exec", "--detach", neighbour.container, "python3", "-m", "http.server", "-d", "/site", "8000"],
        check=True,
        timeout=60,
    )
    source, key = "/etc/apt/sources.list.d/docker.sources", "/site/linux/debian/gpg"
    text = preparation().replace("https://download.docker.com", f"http://{neighbour.private_address}:8000")

    done = sent(text, other)
    assert done.code == 0, done.text
    assert "not with the key that is known, so it is the distribution's" in done.text
    assert other.run("ls", source, ok=False).endswith("No such file or directory")
    assert "docker.io" in other.run("dpkg-query", "--show", "docker*")
    other.run("apt-get", "purge", "-y", "-qq", "docker.io")

    [known] = re.findall("DOCKER_KEY_SHA256=([0-9a-f]{64})", text)
    done = sent(text.replace(known, neighbour.run("sha256sum", key).split()[0]), other)
    assert done.code == 0, done.text
    assert "so it is the distribution's" not in done.text
    assert other.run("dpkg-query", "--show", "--showformat", "${Status}", "docker-ce") == "install ok installed"
    assert "Signed-By: /etc/apt/keyrings/docker.asc" in other.run("cat", source)
    assert "changed:" not in sent(text, other).text


# The firewall.


@pytest.fixture(scope="module")
def served(prepared: Host) -> dict[str, str]:
    """Containers that serve HTTP on the host; their addresses.

    `web` has a port on 127.0.0.1, `open` one on every address; each also serves a port that is not published.
    """
    subprocess.run(
        ["docker", "exec", "-i", prepared.container, "docker", "import", "-", "web"],
        stdin=artefact("rootfs").path.open("rb"),
        check=True,
        timeout=300,
        stdout=subprocess.DEVNULL,
    )
    prepared.docker("network", "create", "stack")
    serve = "python3 -m http.server 9999 & exec python3 -m http.server 8080"
    for name, port in (("web", "127.0.0.1:4200"), ("open", "8088")):
        words = ["run", "--detach", "--restart", "unless-stopped", "--name", name, "--network", "stack"]
        prepared.docker(*words, "--publish", f"{port}:8080", "web", "sh", "-c", serve)
    address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    return {name: prepared.docker("inspect", "--format", address, name) for name in ("web", "open")}


@pytest.fixture(scope="module")
def neighbour(machines: list[Host]) -> Host:
    return machines[1]


def everything(neighbour: Host, host: Host, served: dict[str, str]) -> dict[str, set[int]]:
    four, six = host.private_address, host.private_address6
    found = {
        **scanned(neighbour, four, four, "127.0.0.1", served["web"], served["open"]),
        **scanned(neighbour, six, six, "::1"),
    }
    names = {four: "host", six: "host6", "127.0.0.1": "loopback", "::1": "loopback6"} | {
        address: name for name, address in served.items()
    }
    return {names[address]: ports for address, ports in found.items()}


CLOSED: dict[str, set[int]] = {
    "host": {22, 8088},
    "host6": {22, 8088},
    "loopback": set(),
    "loopback6": set(),
    "web": set(),
    "open": set(),
}
"""What is left: sshd, and the port that was published on every address."""


def without_rules(host: Host) -> None:
    jump = "-D DOCKER-USER -j PREFECT-ENVIRONMENT"
    host.run("sh", "-c", f"iptables {jump}; ip6tables {jump}; iptables -t raw -F")


def test_an_old_engine_is_open_to_neighbours_until_the_rules_are_there(
    prepared: Host, neighbour: Host, served: dict[str, str]
) -> None:
    assert everything(neighbour, prepared, served) == CLOSED
    without_rules(prepared)
    assert prepare(prepared, check=True).code == 1
    open_ = everything(neighbour, prepared, served)
    done = prepare(prepared)
    assert everything(neighbour, prepared, served) == CLOSED
    assert open_["loopback"] == {4200, 8088}
    assert open_["web"] == open_["open"] == {8080, 9999}
    assert open_["loopback6"] == set(), "the kernel itself drops these"
    assert re.findall("^changed: (.*)", done.text, re.MULTILINE) == ["firewall closed to neighbours"]


def test_what_is_meant_to_be_reached_still_is(prepared: Host, neighbour: Host, served: dict[str, str]) -> None:
    def fetched(host: Host, url: str) -> str:
        return host.run("curl", "-sS", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", url, ok=False)

    assert fetched(prepared, "http://127.0.0.1:4200/") == "200"
    assert fetched(prepared, f"http://{served['web']}:9999/") == "200", "the host itself"
    assert fetched(neighbour, f"http://{prepared.private_address}:8088/") == "200"
    fetch = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).status)"
    for url in (f"http://{served['web']}:9999/", f"http://{prepared.private_address}:8088/"):
        assert prepared.docker("exec", "open", "python3", "-c", fetch, url) == "200", url


def test_rules_hold_after_a_restart_of_the_engine_and_a_reboot(
    prepared: Host, neighbour: Host, served: dict[str, str]
) -> None:
    prepared.run("systemctl", "restart", "docker")
    prepared.run(FIREWALL, "--check")
    prepared.reboot()
    prepared.run(FIREWALL, "--check")
    order = prepared.run("journalctl", "--boot", "--output=cat", f"--unit={FIREWALL}", "--unit=docker")
    assert order.rindex(f"Finished {FIREWALL}.service") < order.rindex("Starting docker.service")
    assert everything(neighbour, prepared, served) == CLOSED


def test_what_the_administrator_allows_stays_allowed(prepared: Host, neighbour: Host, served: dict[str, str]) -> None:
    allowed = ["DOCKER-USER", "-s", f"{neighbour.private_address}/32", "-j", "ACCEPT"]
    without_rules(prepared)
    prepared.run("iptables", "-I", *allowed)
    try:
        prepared.run(FIREWALL)
        prepared.run("iptables", "-C", *allowed)
        found = scanned(neighbour, prepared.private_address, served["web"], "127.0.0.1")
    finally:
        prepared.run("iptables", "-D", *allowed)
    assert found == {served["web"]: {8080, 9999}, "127.0.0.1": set()}


def test_a_port_on_a_private_address_answers_on_that_network_only(
    prepared: Host, neighbour: Host, served: dict[str, str]
) -> None:
    assert served
    address, port = "10.99.0.1", 8786
    url = f"http://{address}:{port}/"
    for words in (
        "link add private0 type veth peer name there",
        f"address add {address}/24 dev private0",
        "link set private0 up",
        "netns add there",
        "link set there netns there",
        "-n there address add 10.99.0.2/24 dev there",
        "-n there link set there up",
    ):
        prepared.run("ip", *words.split())
    prepared.docker(
        *("run", "--detach", "--name", "private", "--network", "stack", "--publish", f"{address}:{port}:8080"),
        *("web", "python3", "-m", "http.server", "8080"),
    )
    try:
        assert scanned(neighbour, prepared.private_address, address) == {address: {22, 8088, port}}
        done = prepare(prepared, private=address)
        assert f"changed: ports on {address} kept to its own network" in done.text, done.text
        # Another stack's preparation leaves them be.
        assert prepare(prepared, check=True).code == 0
        assert scanned(neighbour, prepared.private_address, address) == {address: {22}}
        fetch = ["curl", "-sS", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", url]
        assert prepared.run("ip", "netns", "exec", "there", *fetch) == "200"
        assert prepared.run(*fetch) == "200"
        inside = f"import urllib.request as u; print(u.urlopen('{url}', timeout=5).status)"
        assert prepared.docker("exec", "web", "python3", "-c", inside) == "200"
    finally:
        prepared.docker("rm", "--force", "private")
        prepared.run("rm", "/etc/prefect-environment/private-addresses")
        prepared.run(FIREWALL)


def test_an_engine_that_closes_by_itself_has_the_rules_taken_away(prepared: Host) -> None:
    fake = "/usr/local/bin/dockerd"
    prepared.run("sh", "-c", f"printf '#!/bin/sh\\necho Docker version 28.0.0, build x\\n' > {fake}; chmod +x {fake}")
    try:
        prepared.run(FIREWALL)
        left = prepared.run("sh", "-c", "iptables-save; ip6tables-save")
        prepared.run(FIREWALL, "--check")
    finally:
        prepared.run("rm", fake)
        prepared.run(FIREWALL)
    assert "PREFECT-ENVIRONMENT" not in left
    assert "-A FORWARD -j DOCKER-USER" in left, "Docker's own stay"


# Through Pulumi and the script.


@pytest.mark.skipif(
    not plugin_installed("command"), reason="Pulumi's command plugin is not installed: its download site alone has it"
)
def test_one_up_takes_a_fresh_machine_to_a_running_store(tmp_path: Path) -> None:
    with hosts(tmp_path, "new", bare=True) as [new]:
        for env in environment(tmp_path, "prepare", 700):
            parts = {"orion": False, "agent": False, "cli": False, "dask": False}
            host = {"address": new.endpoint(USER), "ssh_options": new.ssh_options, "prepare": True}
            minio = {"data_directory": "/srv/minio"}
            env.write_settings(host=host, profiles=parts, flows=None, minio=minio)
            refused = env.up(ok=False)
            assert refused.code
            assert f"{USER} may not run sudo without a password here" in refused.text
            env.write_settings(host={**host, "address": new.endpoint(ADMIN)})
            env.pulumi("preview", "--non-interactive")
            env.up()
            assert new.run("stat", "-c", "%a %U", "/srv/minio") == "700 root"
            eventually(lambda: "(healthy)" in new.docker("ps", "--format", "{{.Status}}"), 60)
            env.pulumi("preview", "--expect-no-changes", "--non-interactive")
            with (env.root / "components" / "prepare_host.sh").open("a") as script:
                script.write("# another text\n")
            shown = env.pulumi("preview", "--non-interactive").text
            assert "~ 1 to update" in shown
            assert "not known during preview" not in shown, "the engine is asked about everything else"
            env.down("--purge")


def test_the_script_prepares_without_the_plugin(fresh: Host, first_run: Done, tmp_path: Path) -> None:
    assert first_run.code == 0
    for env in environment(tmp_path, "prepare", 700):
        env.write_settings(host={"address": fresh.endpoint(ADMIN), "ssh_options": fresh.ssh_options})
        (env.root / ".venv").symlink_to(ROOT / ".venv")
        done = env.run("scripts/prepare-host", "--stack", env.stack, "--check")
        assert "ready" in done.text
        fresh.run("rm", f"/usr/local/sbin/{FIREWALL}")
        assert env.run("scripts/prepare-host", "--stack", env.stack, "--check", ok=False).code == 1
        assert (
            f"changed: file /usr/local/sbin/{FIREWALL} written"
            in env.run("scripts/prepare-host", "--stack", env.stack).text
        )
        env.write_settings(host=None)
        refused = env.run("scripts/prepare-host", "--stack", env.stack, ok=False)
        assert refused.code == 1
        assert "has no host with an ssh:// address" in refused.text
