"""Environments that end-to-end tests share: a whole stack each."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.environment import Done, Environment, clone_and_home, environment, remove_all, shipped
from tests.e2e.front_door import FrontDoor, front_door_of
from tests.e2e.hosts import Hosted, host_settings, hosts

DISK_GB: Final = 12
"""What a stack and the kept build layers take twice."""
SHARED: dict[str, Environment] = {}
"""Group of tests to the environment that they share."""


def _group(item: pytest.Item | None) -> str | None:
    mark = item.get_closest_marker("xdist_group") if item else None
    return str(mark.args[0]) if mark else None


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What a group shares goes with its last test, long before the session: an idle stack takes time from others."""
    if (group := _group(item)) in SHARED and group != _group(nextitem):
        remove_all(SHARED.pop(group))


@dataclass(frozen=True)
class FirstUp:
    """What the very first `scripts/up` in a fresh clone did."""

    env: Environment
    done: Done


@pytest.fixture(scope="session")
def first_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirstUp]:
    """An environment made by one command; tests that change it leave it converged and greeting."""
    for env in environment(tmp_path_factory.mktemp("first"), "e2e", 100, dask=None):
        SHARED["first"] = env
        yield FirstUp(env, env.up())


@pytest.fixture
def env(first_up: FirstUp) -> Environment:
    return first_up.env


@pytest.fixture(scope="session")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    """A stack behind Caddy and Authelia."""
    for door in front_door_of(tmp_path_factory.mktemp("front")):
        SHARED["front"] = door.env
        yield door


@pytest.fixture(scope="session")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    """A stack behind a Caddy, for what is done to one from the second week on; who changes it leaves it as it was.

    It is on a remote host with a disk of its own, which can be filled.
    """
    directory = tmp_path_factory.mktemp("lived-in")
    with hosts(directory, "lived-in", disk_gb=DISK_GB) as [host]:
        root, home = clone_and_home(directory)
        env = Hosted(root, "lived-in", home, shipped(root, "dev-mirror"), host=host)
        env.write_settings(
            host=host_settings(host),
            port_offset=2600,
            dask={"workers": 1},
            profiles={"cli": False},
            proxy={"mode": "managed", "domain": "lived-in.test", "certificates": "internal", "address": "127.0.0.79"},
            metrics={"mode": "managed"},
        )
        env.up()
        SHARED["lived-in"] = env
        yield env
        SHARED.pop("lived-in", None)  # It goes with its host.


@contextmanager
def serving_images(directory: Path, address: str) -> Iterator[str]:
    """Debian's docker-registry at `address`, an IP address and port of this machine; its data in `directory`."""
    (directory / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\nhttp: {{addr: {address}}}\n"
    )
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", "config.yml"], cwd=directory, stdout=log, stderr=log)
    try:
        time.sleep(1)
        assert server.poll() is None, (directory / "log").read_text()
        yield address
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry on loopback; its address."""
    with serving_images(tmp_path_factory.mktemp("registry"), "127.0.0.1:5055") as address:
        yield address
