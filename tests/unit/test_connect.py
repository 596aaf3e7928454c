"""What scripts/connect tells programs and people, and what it does when a way is lost; ssh is a script of ours."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from providers.ssh import is_open, ssh_host
from scripts.lib import connect, stacks
from scripts.lib.connect import Variable, Ways, environment
from scripts.lib.paths import ROOT, VENV
from scripts.lib.stacks import Settings, Stack
from scripts.lib.ui import Failure
from tests.e2e.environment import eventually

OUTPUTS = {
    "prefect_url": "http://127.0.0.1:4200",
    "prefect_api_auth_string": "admin:a 'secret",
    "minio_url": "http://127.0.0.1:9000",
    "minio_root_user": "minio-root",
    "minio_root_password": "the administrator's",
    "bucket_access_key": "prefectuserkey",
    "bucket_secret_key": "another",
}
# As ssh does: it says that it forwards, and ends with its input.
SSH = """#!/bin/sh
cd "$(dirname "$0")" && echo $$ >>pids
[ -e cut ] && { echo "ssh: connect to host far port 22: Connection refused" >&2; exit 255; }
echo forwarding; exec cat
"""


@pytest.fixture(name="far")
def _far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose `ssh` reaches a host; with a file `cut` it does not."""
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(connect, "LOOK_SECONDS", 0.05)
    return tmp_path


def known(monkeypatch: pytest.MonkeyPatch, outputs: dict[str, str] = OUTPUTS, address: str | None = None) -> None:
    class Known(Stack):
        def outputs(self, *, show_secrets: bool = False) -> dict[str, str]:
            assert show_secrets
            return outputs

    via = ssh_host(address, {}) if address else None
    monkeypatch.setattr(stacks, "found", lambda _: Known("mine", {}))
    monkeypatch.setattr(stacks, "settings", lambda _: Settings((), (), {}, None, {}, via))


def test_a_command_has_the_environment_and_its_code_is_ours(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    known(monkeypatch)
    names = "PREFECT_API_URL PREFECT_API_AUTH_STRING AWS_ENDPOINT_URL_S3 AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY"
    shown = "; ".join(f'echo "${name}"' for name in names.split())
    assert connect.connect(None, ["sh", "-c", f"{shown}; exit 7"], show_secrets=False) == 7
    assert capfd.readouterr().out.splitlines() == [
        "http://127.0.0.1:4200/api",
        "admin:a 'secret",
        "http://127.0.0.1:9000",
        "prefectuserkey",
        "another",
    ]
    assert connect.connect(None, ["sh", "-c", "kill -TERM $$"], show_secrets=False) == 128 + signal.SIGTERM
    with pytest.raises(Failure, match="no-such-command can't be started: No such file"):
        connect.connect(None, ["no-such-command"], show_secrets=False)


def test_the_users_own_environment_stays_but_for_what_would_lead_astray() -> None:
    ours = {"PATH": "/bin", "HOME": "/home/ada", "no_proxy": "example.com", "AWS_SESSION_TOKEN": "of another key"}
    env = environment(ours, [Variable("PREFECT_API_URL", "http://127.0.0.1:4200/api")])
    assert env == {
        "PATH": f"/bin:{VENV / 'bin'}",
        "HOME": "/home/ada",
        "NO_PROXY": "example.com,127.0.0.1",
        "no_proxy": "example.com,127.0.0.1",
        "PREFECT_API_URL": "http://127.0.0.1:4200/api",
    }


def test_secrets_are_printed_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known(monkeypatch)
    assert connect.connect(None, [], show_secrets=False) == 0
    told = capsys.readouterr().out
    assert not [value for value in ("a 'secret", "another", "administrator") if value in told]
    fetch = f'"$({ROOT}/scripts/pulumi stack output prefect_api_auth_string --show-secrets --stack mine)"'
    assert f"export PREFECT_API_AUTH_STRING={fetch}\n" in told
    assert "nothing to keep open" in told
    connect.connect(None, [], show_secrets=True)
    assert """export PREFECT_API_AUTH_STRING='admin:a '"'"'secret'\n""" in capsys.readouterr().out


def test_parts_that_are_switched_off_and_a_store_elsewhere(
    far: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known(monkeypatch, {"minio_url": "https://s3.example.com"}, "ssh://ops@elsewhere")
    assert connect.connect(None, [], show_secrets=False) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["MinIO's", "S3", "API", "https://s3.example.com"]
    assert not (far / "pids").exists()


def test_a_host_that_can_not_be_reached(far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (far / "cut").touch()
    known(monkeypatch, address="ssh://ops@cut-off")
    with pytest.raises(Failure, match="the host does not answer over ssh"):
        connect.connect(None, ["true"], show_secrets=False)


def test_a_lost_way_is_told_once_and_comes_back_where_it_was(far: Path, capsys: pytest.CaptureFixture[str]) -> None:
    via = ssh_host("ssh://ops@far", {})
    ways = Ways(OUTPUTS, via)
    url = ways.url("prefect_url")
    assert urlsplit(url).port != 4200
    with ways.watched():
        (far / "cut").touch()
        os.kill(int((far / "pids").read_text()), signal.SIGTERM)
        eventually(lambda: len((far / "pids").read_text().split()) > 3, 10)
        assert not is_open(via, 4200)
        (far / "cut").unlink()
        eventually(lambda: is_open(via, 4200), 10)
        assert ways.url("prefect_url") == url
    assert capsys.readouterr().err == f"✗ the way to Prefect is lost\n✓ Prefect is at {url} again\n"
