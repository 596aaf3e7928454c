"""Where scripts/logs looks for a container; the engines are scripts in place of docker."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.lib import stacks
from scripts.lib.engine import Engine
from scripts.lib.logs import logs
from scripts.lib.stacks import PROJECT, Settings, Stack
from scripts.lib.ui import Failure

DOCKER = """#!/bin/sh
[ "$2" = unix:///silent ] && { echo "Cannot connect to the Docker daemon" >&2; exit 1; }
[ "$3" = logs ] && { shift 3; echo "$@"; exit 7; }
[ "$2" = unix:///first ] && printf 'PROJECT-mine-minio Up 2 hours\\nPROJECT-mine-postgres Exited (0) 1 second ago\\n'
[ "$2" = unix:///gpu ] && echo 'PROJECT-mine-dask-worker-gpu-1 Up 3 minutes'
exit 0
""".replace("PROJECT", PROJECT)


@pytest.fixture(autouse=True)
def _docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(stacks, "found", lambda _: Stack("mine", {}))
    _engines(monkeypatch, "first", "gpu")


def _engines(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    engines = tuple(Engine(f"unix:///{name}", setting=name) for name in names)
    settings = Settings((), engines, {}, None, {}, None)
    monkeypatch.setattr(stacks, "settings", lambda _: settings)


@pytest.mark.parametrize("name", ["dask-worker-gpu-1", f"{PROJECT}-mine-dask-worker-gpu-1"])
def test_a_container_is_found_on_its_host_by_either_name(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert logs(None, name, ["--follow", "--tail=5"]) == 7, "what docker ended with"
    assert capfd.readouterr().out == f"--follow --tail=5 {PROJECT}-mine-dask-worker-gpu-1\n"


def test_without_a_name_they_are_listed_with_host_and_state(capfd: pytest.CaptureFixture[str]) -> None:
    assert logs(None, None, []) == 0
    listed = [line.split(None, 2) for line in capfd.readouterr().out.splitlines()]
    assert listed == [
        ["dask-worker-gpu-1", "gpu", "Up 3 minutes"],
        ["minio", "first", "Up 2 hours"],
        ["postgres", "first", "Exited (0) 1 second ago"],
    ]


def test_a_wrong_name_is_told_the_right_ones() -> None:
    with pytest.raises(Failure, match=r"no container caddy\. It has: dask-worker-gpu-1, minio, postgres\."):
        logs(None, "caddy", [])


def test_a_host_that_is_silent_matters_only_to_what_may_be_on_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _engines(monkeypatch, "first", "silent")
    assert logs(None, "minio", []) == 7
    with pytest.raises(Failure, match="Cannot connect to the Docker daemon"):
        logs(None, "dask-worker-gpu-1", [])
    capfd.readouterr()
    with pytest.raises(Failure, match="Cannot connect to the Docker daemon"):
        logs(None, None, [])
    assert "minio" in capfd.readouterr().out, "what is known is shown nevertheless"
