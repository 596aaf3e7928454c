"""An upgrade: the order of its steps, and the way back from each, by a runner that only notes what it is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from scripts.lib import halt, policy, recovery, upgrade, versions
from scripts.lib.backup import Snapshot
from scripts.lib.engine import Engine
from scripts.lib.setup import Ready
from scripts.lib.stacks import Stack
from scripts.lib.ui import Failure
from scripts.lib.up import IMAGE
from settings.versions import SERVER_LOCK, locked
from tests.unit.steps import Steps

ALL = ["images", "stop", "backup", "migrate", "up", "smoke", "ending"]
PASSWORD = "of-the-database"


@dataclass
class FakeRunner(Steps):
    """Stands in for what upgrades a stack."""

    running: str | None = "3.7.4"

    def patch(self, patch: pytest.MonkeyPatch) -> None:
        runner = self

        class Box:
            def __init__(self, _stack: str) -> None:
                runner.note("box") if runner.fails_at == "box" else None

            def save(self, _stack: Stack, tag: str) -> Snapshot:
                assert tag == "before-upgrade"
                runner.note("backup")
                return Snapshot("11111111", datetime(2026, 3, 4, tzinfo=UTC), tag)

            def do(self, *words: str) -> None:
                runner.note(" ".join(words))

        class Halted:
            def start(self) -> None:
                runner.note("start")

        class Migration:
            def __init__(self, _engine: Engine, _stack: Stack) -> None:
                assert "stop" not in runner.steps

            def run(self) -> None:
                runner.note("migrate")

        def stop(_ready: Ready) -> Halted:
            runner.note("stop")
            return Halted()

        def update(_stack: Stack, _command: str, *words: str, yes: bool) -> None:
            assert yes
            runner.note("images" if "--target" in words else "up")

        def prove(_ready: Ready) -> int:
            runner.note("smoke")
            return 0

        patch.setattr(upgrade, "set_up", lambda *_: Ready("s", (cast("Engine", None),), {}))
        patch.setattr(versions, "running", lambda _: runner.running)
        patch.setattr(versions, "locked", lambda: "3.8.8")
        patch.setattr(recovery, "recover", lambda *_: None)
        patch.setattr(policy, "prepare", lambda env: ([], env))
        patch.setattr(upgrade, "Box", Box)
        patch.setattr(upgrade, "Migration", Migration)
        patch.setattr(halt, "stop", stop)
        patch.setattr(upgrade, "update", update)
        patch.setattr(upgrade, "prove", prove)
        patch.setattr(upgrade, "outcome", lambda _: runner.note("ending"))


def upgraded(patch: pytest.MonkeyPatch, runner: FakeRunner, *, backup: bool = True) -> None:
    runner.patch(patch)
    assert upgrade.upgrade("s", backup=backup, yes=True) == 0


def test_the_steps_are_in_order_and_the_way_back_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = FakeRunner()
    upgraded(monkeypatch, runner)
    assert runner.steps == ALL
    told = capsys.readouterr().out
    assert "Prefect 3.7.4 becomes 3.8.8" in told
    assert "that has Prefect 3.7.4, and run\n  scripts/restore --stack s --snapshot 11111111" in told


def test_where_the_images_can_not_be_built_nothing_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner(fails_at="images")
    with pytest.raises(Failure):
        upgraded(monkeypatch, runner)
    assert runner.steps == ["images"]


def test_without_a_backup_all_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner(fails_at="backup")
    with pytest.raises(Failure):
        upgraded(monkeypatch, runner)
    assert runner.steps == ["images", "stop", "backup", "start"]


@pytest.mark.parametrize("error", [Failure("it broke"), KeyboardInterrupt()])
def test_a_migration_that_fails_leaves_the_database_as_it_was(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    runner = FakeRunner(fails_at="migrate", error=error)
    with pytest.raises(type(error)):
        upgraded(monkeypatch, runner)
    assert runner.steps == ["images", "stop", "backup", "migrate", "restore 11111111", "start"]


@pytest.mark.parametrize("step", ["up", "smoke"])
def test_after_the_migration_the_way_back_is_told(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    runner = FakeRunner(fails_at=step)
    with pytest.raises(Failure, match=r"(?s)Prefect 3\.8\.8 now\. Mend.*scripts/restore --stack s --snapshot 11111111"):
        upgraded(monkeypatch, runner)


def test_a_stack_without_backups_is_upgraded_only_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner(fails_at="box")
    with pytest.raises(Failure, match=r"Without a backup there is no way back.*--without-backup"):
        upgraded(monkeypatch, runner)
    assert runner.steps == ["box"]
    runner = FakeRunner(fails_at="box")
    upgraded(monkeypatch, runner, backup=False)
    assert runner.steps == [step for step in ALL if step != "backup"]


def test_the_version_that_runs_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner(running="3.8.8")
    upgraded(monkeypatch, runner)
    assert runner.steps == []


@pytest.mark.parametrize(
    ("running", "problem"), [("3.10.0", "can't read that database. Nothing was done"), (None, "No server of s runs")]
)
def test_what_can_not_be_upgraded_is_not_touched(
    monkeypatch: pytest.MonkeyPatch, running: str | None, problem: str
) -> None:
    runner = FakeRunner(running=running)
    with pytest.raises(Failure, match=problem):
        upgraded(monkeypatch, runner)
    assert runner.steps == []


class FakeEngine(Engine):
    """Notes what docker is asked, and answers as one with a server."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__("unix:///nowhere")
        self.fails = fails
        self.asked: list[tuple[Sequence[str], str]] = []

    def docker(self, *words: str, timeout: float = 60, given: str = "") -> str:  # noqa: ARG002  (the engine's)
        self.asked.append((words, given))
        if words[0] == "inspect":
            env = ["PATH=/bin", f"PREFECT_SERVER_DATABASE_PASSWORD={PASSWORD}", "PREFECT_SERVER_API_AUTH_STRING=a:b"]
            networks: dict[str, object] = {"p-caddy-network": {}, "p-database-network": {}}
            return json.dumps([{"Config": {"Env": env}, "NetworkSettings": {"Networks": networks}}])
        if words[0] == "run" and self.fails:
            raise Failure("it broke")
        return ""


class FakeStack(Stack):
    """One whose state has two images."""

    def deployment(self) -> dict[str, Any]:
        images = [
            {
                "type": IMAGE,
                "urn": f"urn:pulumi:s::p::i$RemoteImage::{name}",
                "outputs": {"name": f"p-s/{name}:1"},
            }
            for name in ("worker", "prefect")
        ]
        return {"deployment": {"resources": images}}


@pytest.mark.parametrize("fails", [False, True])
def test_the_migration_is_a_container_that_goes_and_whose_password_is_no_argument(fails: bool) -> None:
    engine = FakeEngine(fails=fails)
    migration = upgrade.Migration(engine, FakeStack("s", {}))
    try:
        migration.run()
    except Failure:
        assert fails
    run, given = engine.asked[1]
    words = " ".join(run)
    assert "--name prefect-environment-s-prefect-migration --network p-database-network" in words
    assert words.endswith("p-s/prefect:1 prefect server database upgrade --yes")
    assert PASSWORD not in words
    assert given.splitlines() == [
        f"PREFECT_SERVER_DATABASE_PASSWORD={PASSWORD}",
        f"PREFECT_SERVER_DATABASE_TIMEOUT={upgrade.MIGRATION_SECONDS}",
    ]
    assert engine.asked[2][0] == ("container", "rm", "--force", "prefect-environment-s-prefect-migration")


def test_the_version_of_the_lock_is_the_one_that_the_settings_check() -> None:
    assert versions.locked() == locked(SERVER_LOCK)["prefect"]
