"""State backend and passphrase: ours only where the user has none; the lock of the packages; what up says."""

import http.server
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.lib import environment, network, tools
from scripts.lib.paths import ROOT
from scripts.lib.setup import uv_requirement
from scripts.lib.up import ending


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "pulumi"))
    return tmp_path


def test_state_is_outside_the_clone_and_for_the_user_alone(home: Path) -> None:
    env = environment.pulumi_environment()
    state = home / "state" / "prefect-environment"
    passphrase = state / "passphrase"
    assert env["PULUMI_BACKEND_URL"] == (state / "backend").as_uri()
    assert env["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(passphrase)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE(passphrase.stat().st_mode) == 0o600
    assert passphrase.read_text() not in str(env)


@pytest.mark.usefixtures("home")
def test_the_passphrase_is_made_once() -> None:
    passphrase = Path(environment.pulumi_environment()["PULUMI_CONFIG_PASSPHRASE_FILE"])
    first = passphrase.read_text()
    environment.pulumi_environment()
    assert passphrase.read_text() == first
    assert len(first) >= 32
    assert [file.name for file in passphrase.parent.glob("passphrase*")] == ["passphrase"]


@pytest.mark.usefixtures("home")
def test_the_users_backend_and_passphrase_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://bucket")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "own")
    env = environment.pulumi_environment()
    assert env["PULUMI_BACKEND_URL"] == "s3://bucket"
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in env


def test_a_login_is_left_alone(home: Path) -> None:
    (home / "pulumi").mkdir()
    (home / "pulumi" / "credentials.json").write_text('{"current": "https://api.pulumi.com"}')
    assert "PULUMI_BACKEND_URL" not in environment.pulumi_environment()


def test_the_clones_packages_come_first_on_the_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    path = environment.pulumi_environment()["PATH"].split(":")
    assert path[0] == str(ROOT / ".venv" / "bin")
    assert path[-1] == "/usr/bin"
    assert not [part for part in path if part.startswith(str(home))], "nothing was built, so nothing is added"


def test_plugins_on_the_path_or_in_pulumis_home_are_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home / "bin"))
    assert not tools.plugin_installed("docker")
    installed = home / "pulumi" / "plugins" / f"resource-docker-v{tools.PLUGINS['docker']}"
    installed.mkdir(parents=True)
    (installed / "pulumi-resource-docker").touch()
    assert tools.plugin_installed("docker")
    assert not tools.plugin_installed("command")
    (home / "bin").mkdir()
    (home / "bin" / "pulumi-resource-command").touch(mode=0o755)
    assert tools.plugin_installed("command")


def test_the_versions_of_the_plugins_are_those_of_the_sdks() -> None:
    lock = (ROOT / "requirements.txt").read_text()
    assert f"\npulumi=={tools.CLI_VERSION} " in lock
    for name, version in tools.PLUGINS.items():
        assert f"\npulumi-{name}=={version} " in lock


def test_uv_is_taken_from_the_lock_with_its_hashes() -> None:
    requirement = uv_requirement((ROOT / "requirements.txt").read_text())
    assert requirement.startswith("uv==")
    assert requirement.count("--hash=sha256:") > 5
    assert requirement.count("==") == 1


class Proxy(http.server.BaseHTTPRequestHandler):
    headers_sent: dict[str, str]

    def do_GET(self) -> None:
        self.send_response(401 if "registry" in self.path else 403)
        if "registry" in self.path:
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_registry_that_asks_for_credentials_answers_and_a_proxy_that_refuses_does_not(site: str) -> None:
    marker = "Docker-Distribution-Api-Version"
    assert network.answers(f"{site}/registry", marker=marker)
    assert not network.answers(f"{site}/other", marker=marker)
    assert not network.answers(f"{site}/other")
    assert not network.answers("http://127.0.0.1:1/")


def test_the_ending_names_the_urls_and_the_forwards_over_ssh() -> None:
    outputs = {"prefect_url": "http://127.0.0.1:4200", "dask_dashboard_url": "http://127.0.0.1:8787/"}
    text = ending("dev", outputs, ["ssh", "-p", "2222", "deploy@192.0.2.2"])
    assert "ssh -N -L 4200:127.0.0.1:4200 -L 8787:127.0.0.1:8787 -p 2222 deploy@192.0.2.2" in text
    assert "MinIO" not in text
    assert "scripts/down --purge" in text
    assert "ssh -N" not in ending("dev", outputs, None)
    text = ending("dev", outputs | {"public_url": "https://tasks.example.com"}, None)
    assert re.search(r"^Prefect +https://tasks\.example\.com, http://127", text, re.MULTILINE)
