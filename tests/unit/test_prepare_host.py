"""The preparation of a host as it is declared and sent; what it does there is an end-to-end test."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from components.host_preparation import launch, preparation
from providers.ssh import ssh_host
from scripts.lib import setup, tools
from scripts.lib.engine import Engine
from scripts.lib.ui import Failure
from settings import SettingsError
from tests.unit.recorder import Recorded, record, revealed

ADDRESS = "ssh://admin@host.example:2222"
PARTS = {"orion": False, "agent": False, "cli": False, "dask": False}


def recorded(**host: Any) -> dict[str, Recorded]:
    settings = {
        "host": host,
        "profiles": PARTS,
        "images": {"source": "build"},
        "minio": {"data_directory": "/srv/minio", "root_password": "do-not-tell"},
    }
    return {resource.name: resource for resource in record(settings, secret=("minio",))}


@pytest.fixture
def path(tmp_path: Path) -> Mapping[str, str]:
    """An environment whose `id` is that of a user without rights, and that has no sudo."""
    for name, text in (("id", 'case "$1" in -u) echo 1000 ;; *) echo ops ;; esac'), ("sudo", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}


def test_the_script_is_one_that_a_shell_can_read() -> None:
    text = preparation(PurePosixPath("/srv/it's a disk"))
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    [script, *_] = shlex.split(text.partition("=")[2], comments=False)[:1]
    subprocess.run(["sh", "-n"], input=script, text=True, check=True)
    given = script[: script.index("#!/bin/sh\n# Prepares")]
    shown = subprocess.run(
        ["sh"], input=f'{given}\nprintf "%s|%s|%s" "$CHECK" "$DATA_DIRECTORY" "${{FIREWALL%%usage*}}"',
        text=True, check=True, capture_output=True,
    ).stdout  # fmt: skip
    assert shown.startswith("no|/srv/it's a disk|#!/bin/sh\n# Closes to a host's neighbours")


def test_without_rights_it_says_what_to_run_and_does_nothing_else(path: Mapping[str, str]) -> None:
    done = subprocess.run(
        ["sh", "-s", "0"], input=preparation(), env=path, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "echo 'ops ALL=(ALL) NOPASSWD: ALL' | sudo tee /etc/sudoers.d/ops" in done.stderr


def test_it_goes_over_ssh_with_the_options_of_all_else() -> None:
    words = launch(ssh_host(ADDRESS, {"ProxyJump": "gate"}))
    assert words[-2:] == ["sh", "-s"]
    assert words[-4:-2] == ["--", "admin@host.example"]
    assert {"StrictHostKeyChecking=yes", "BatchMode=yes", "ProxyJump=gate"} <= set(words)


@pytest.mark.usefixtures("_project")
def test_the_engine_is_used_only_after_the_preparation() -> None:
    resources = recorded(address=ADDRESS, prepare=True)
    command, provider = resources["host-preparation"], resources["docker"]
    assert command.type == "command:local:Command"
    assert command.urn in provider.depends_on
    assert command.urn in resources["host-prepared"].depends_on
    assert command.inputs == {
        "create": f'{shlex.join(launch(ssh_host(ADDRESS, {})))} "$(date +%s)"',
        "stdin": preparation(PurePosixPath("/srv/minio")),
    }
    assert revealed(provider.inputs["host"]) == ADDRESS
    assert "do-not-tell" not in str(command.inputs)


@pytest.mark.usefixtures("_project")
def test_a_host_that_is_not_to_be_prepared_needs_no_command() -> None:
    assert not [r for r in recorded(address=ADDRESS).values() if r.type.startswith("command:")]


@pytest.mark.usefixtures("_project")
def test_further_hosts_are_prepared_each_with_its_private_address() -> None:
    first = {"address": ADDRESS, "prepare": True, "private_address": "10.99.0.1"}
    further = {"address": "ssh://other.example", "prepare": True, "private_address": "10.99.0.2", "dask_workers": 1}
    settings = {"host": first, "hosts": {"big": further}, "images": {"source": "build"}}
    resources = {resource.name: resource for resource in record(settings)}
    assert resources["host-preparation"].inputs["stdin"] == preparation(private_address="10.99.0.1")
    assert resources["host-big-preparation"].inputs["stdin"] == preparation(private_address="10.99.0.2")
    assert "PRIVATE_ADDRESS=10.99.0.2\n" in preparation(private_address="10.99.0.2")


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize("host", [{}, {"address": "unix:///run/docker.sock"}, {"address": "tcp://127.0.0.1:2375"}])
def test_a_host_without_ssh_cant_be_prepared(host: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    with pytest.raises(SettingsError, match=r"host.*prepare: .* over ssh.*Name its ssh:// address"):
        recorded(**host, prepare=True)


def test_set_up_waits_for_no_engine_that_the_up_will_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(_self: Engine) -> str:
        raise Failure("docker: not found")

    monkeypatch.setattr(Engine, "version", silent)
    bare, other = Engine(ADDRESS, prepared=True), Engine(ADDRESS)
    assert setup._silent([bare, other]) == [other]


@pytest.mark.parametrize("prepares", [False, True])
def test_the_command_plugin_is_asked_for_only_by_a_stack_that_prepares(
    prepares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "plugin_installed", lambda name: name == "docker")
    monkeypatch.setattr(tools, "downloads_answer", lambda: False)
    if not prepares:
        setup._plugins({}, prepares=False)
        return
    with pytest.raises(Failure, match=r"command plugin.*\n.*scripts/prepare-host"):
        setup._plugins({}, prepares=True)
