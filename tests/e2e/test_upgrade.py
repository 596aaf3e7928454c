"""An older Prefect becomes the one of the locks, with its data, and the other way round."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.e2e.environment import ROOT, Environment, eventually

pytestmark = pytest.mark.xdist_group("lived-in")

OLD: Final = "3.7.4"
PINS: Final = {
    "prefect": (OLD, "1ab7c5e9d418eb6e7dbb870b08704a2cce9ff054369c3bd1a9e9b0f8ec0d1257"),
    # Which it does not take newer.
    "fastapi": ("0.135.0", "31e2ddc78d6406c6f7d5d7b9996a057985e2600fbe7e9ba6ace8205d48dff688"),
    "packaging": ("26.2", "5fc45236b9446107ff2415ce77c807cee2862cb6fac22b8a73826d0693b0980e"),
    "python-slugify": ("8.0.4", "276540b79961052b66b7d116620b36518847f52d5fd9e3a70164fc8c50faa6b8"),
}
"""Package to its older version and the hash of its wheel."""
LOCKS: Final = ("requirements.txt", "images/prefect/requirements.txt", "images/worker/requirements.txt")
NAME: Final = "before the upgrade"


def older(env: Environment) -> None:
    """Let the clone be one of an older version of the project."""
    for lock in LOCKS:
        text = (ROOT / lock).read_text()
        for package, (version, digest) in PINS.items():
            pin = rf"^{package}==.*\n(?:    --hash=.*\n)+"
            text, count = re.subn(
                pin, f"{package}=={version} \\\\\n    --hash=sha256:{digest}\n", text, flags=re.MULTILINE
            )
            assert count == 1, (lock, package)
        (env.root / lock).write_text(text)
    set_up(env)


def newer(env: Environment) -> None:
    for lock in LOCKS:
        (env.root / lock).write_text((ROOT / lock).read_text())
    set_up(env)


def set_up(env: Environment) -> None:
    """Install what the clone's locks have: the program is a client of the server, and a newer one asks for more."""
    env.run("scripts/setup", "--yes", "--stack", env.stack)


def version(env: Environment) -> str:
    return str(env.http("/admin/version"))


def names(env: Environment) -> list[str]:
    """Names of the flow runs of before."""
    found = env.http("/flow_runs/filter", {"flow_runs": {"name": {"any_": [NAME]}}})
    return [flow_run["name"] for flow_run in found]


@pytest.fixture(scope="module", name="env")
def _env(lived_in: Environment) -> Iterator[Environment]:
    """The stack as an older version of the project would have made it, without workers, which need more images."""
    env = lived_in
    usual: dict[str, Any] = env.settings["profiles"]
    env.write_settings(backup={"mode": "managed", "directory": "/srv/backup"})
    without(env, usual)
    older(env)
    env.docker("stop", env.name("prefect-server"))
    empty = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
    env.docker("exec", env.name("postgres"), "psql", "-U", "prefect", "-d", "prefect", "-c", empty)
    env.pulumi("state", "delete", env.urn("VersionContract", "prefect-server-version"), "--force", "--yes")
    env.apply()
    # What is asked for before it answers is taken for what the state says, and not made again.
    eventually(lambda: env.health("prefect-server") == "healthy", 120)
    env.apply("--refresh")
    assert version(env) == OLD
    flow = env.http("/flows/", {"name": "of-old"})
    env.http("/flow_runs/", {"flow_id": flow["id"], "name": NAME, "state": {"type": "COMPLETED"}})
    env.http("/variables/", {"name": "of_old", "value": 42})
    yield env
    newer(env)
    env.write_settings(backup=None, profiles=usual)
    for protected in (env.urn("GeneratedSecret", "backup-password"), env.urn("Volume", "backup-work")):
        env.pulumi("state", "unprotect", protected, "--yes")
    env.pulumi("state", "unprotect", env.urn("DataContract", "backup-work-terms"), "--yes")
    env.apply()
    env.docker("volume", "rm", env.name("backup-work"))


def without(env: Environment, usual: dict[str, Any]) -> None:
    env.write_settings(profiles={**usual, "agent": False, "dask": False})


def test_an_older_prefect_becomes_the_one_of_the_lock_with_its_data(env: Environment) -> None:
    newer(env)
    env.write_settings(profiles={"cli": False})
    locked = re.findall(r"^prefect==(\S+)", (ROOT / LOCKS[1]).read_text(), re.MULTILINE)
    done = env.run("scripts/upgrade", "--stack", env.stack, "--yes")
    assert f"Prefect {OLD} becomes {locked[0]}" in done.text
    assert "greetings/test-deployment is Completed, and so is every task, on Dask" in done.text
    assert version(env) == locked[0]
    assert names(env) == [NAME]
    assert env.http("/variables/name/of_old")["value"] == 42
    assert env.docker("ps", "--all", "--quiet", "--filter", "name=prefect-migration") == ""
    again = env.run("scripts/upgrade", "--stack", env.stack, "--yes")
    assert f"runs Prefect {locked[0]}, as the lock has it; nothing to do" in again.text
    env.pulumi("preview", "--refresh", "--expect-no-changes", "--non-interactive")

    # And back, as it has said.
    [snapshot] = re.findall(r"scripts/restore --stack \S+ --snapshot ([0-9a-f]{8})", done.text)
    older(env)
    without(env, {"cli": False})
    refused = env.run("scripts/upgrade", "--stack", env.stack, "--yes", ok=False)
    assert refused.code == 1
    assert f"runs Prefect {locked[0]}, and the lock has {OLD}, which can't read that database" in refused.text
    refused = env.pulumi("preview", "--non-interactive", ok=False)
    assert refused.code != 0
    assert f"Prefect from {locked[0]} to {OLD}. Nothing was changed" in refused.text
    env.run("scripts/restore", "--stack", env.stack, "--snapshot", snapshot, "--yes")
    assert version(env) == OLD
    assert names(env) == [NAME]
    assert env.http("/flow_runs/filter", {"flow_runs": {"deployment_id": {"is_null_": False}}}) == []
