"""A move: the order of its steps, and the way back from each, by a runner that only notes what it is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from scripts.lib import halt, move, stacks
from scripts.lib.backup import Snapshot
from scripts.lib.engine import Engine
from scripts.lib.setup import Ready
from scripts.lib.ui import Failure
from tests.unit.steps import Steps

ALL = [
    "up new without workers",
    "stop old",
    "backup old",
    "send old to new",
    "restore new",
    "smoke new",
    "down old",
    "ending new",
]


@dataclass
class FakeRunner(Steps):
    """Stands in for what moves a stack."""

    def patch(self, patch: pytest.MonkeyPatch) -> None:
        runner = self

        class Box:
            def __init__(self, stack: str) -> None:
                self.stack = stack

            def save(self, stack: stacks.Stack, tag: str) -> Snapshot:
                assert (stack.name, tag) == (self.stack, "moved")
                runner.note(f"backup {self.stack}")
                return Snapshot("11111111", datetime(2026, 3, 4, tzinfo=UTC), tag)

            def send(self, snapshot: Snapshot, other: Box) -> Snapshot:
                assert snapshot.id == "11111111"
                runner.note(f"send {self.stack} to {other.stack}")
                return Snapshot("22222222", snapshot.time, snapshot.tag)

        class Halted:
            def __init__(self, stack: str) -> None:
                self.stack = stack

            def start(self) -> None:
                runner.note(f"start {self.stack}")

        def apply(wanted: str, *words: str, yes: bool, policies: bool) -> Ready:
            assert yes
            assert not policies
            assert words == ("--refresh", "--exclude", "**:Container::prefect-worker-*")
            runner.note(f"up {wanted} without workers")
            return Ready(wanted, (), {})

        def bring_back(ready: Ready, box: Box, chosen: Snapshot, *, exact: bool) -> None:
            assert (box.stack, chosen.id, exact) == (ready.stack, "22222222", False)
            runner.note(f"restore {ready.stack}")

        def prove(ready: Ready) -> int:
            runner.note(f"smoke {ready.stack}")
            return 0

        def stop(ready: Ready) -> Halted:
            runner.note(f"stop {ready.stack}")
            return Halted(ready.stack)

        def down(wanted: str, *, purge: bool, yes: bool) -> int:
            assert yes
            assert not purge
            runner.note(f"down {wanted}")
            return 0

        patch.setattr(move, "set_up", lambda wanted, *_, **__: Ready(wanted, (), {}))
        patch.setattr(stacks, "existing", lambda _: ["old"])
        patch.setattr(stacks, "choose", lambda *_: None)
        patch.setattr(stacks, "configuration", lambda _: self.settings)
        patch.setattr(move, "Box", Box)
        patch.setattr(move, "apply", apply)
        patch.setattr(move, "bring_back", bring_back)
        patch.setattr(move, "prove", prove)
        patch.setattr(halt, "stop", stop)
        patch.setattr(move, "down", down)
        patch.setattr(move, "outcome", lambda ready: runner.note(f"ending {ready.stack}"))

    settings: dict[str, Any] = field(
        default_factory=lambda: {"prefect-environment:backup": {"mode": "managed", "directory": "/srv/backup"}}
    )


def moved(patch: pytest.MonkeyPatch, runner: FakeRunner, to: str = "new") -> None:
    runner.patch(patch)
    assert move.move("old", to, yes=True) == 0


def test_the_steps_are_in_order_and_the_old_one_is_down_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner()
    moved(monkeypatch, runner)
    assert runner.steps == ALL


def test_where_the_new_one_does_not_come_up_the_old_one_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner(fails_at=ALL[0])
    with pytest.raises(Failure, match=r"(?s)it broke\nold was not touched.*scripts/down --purge --stack new"):
        moved(monkeypatch, runner)
    assert runner.steps == ALL[:1]


@pytest.mark.parametrize("step", ["backup old", "send old to new", "restore new", "smoke new"])
def test_from_every_later_step_the_old_one_runs_again_and_never_beside_the_new_one(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    runner = FakeRunner(fails_at=step)
    with pytest.raises(Failure, match=r"(?s)it broke\nold runs again as before, and new is stopped"):
        moved(monkeypatch, runner)
    assert runner.steps == [*ALL[: ALL.index(step) + 1], "stop new", "start old"]


def test_a_smoke_test_that_fails_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner()
    runner.patch(monkeypatch)
    monkeypatch.setattr(move, "prove", lambda _: 1)
    with pytest.raises(Failure, match="The smoke test of new failed"):
        move.move("old", "new", yes=True)
    assert runner.steps[-2:] == ["stop new", "start old"]


def test_an_interrupt_is_no_reason_to_leave_the_old_one_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner(fails_at="restore new", error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        moved(monkeypatch, runner)
    assert runner.steps[-2:] == ["stop new", "start old"]


def test_a_new_one_that_can_not_be_stopped_does_not_keep_the_old_one_down(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner(fails_at="restore new")
    runner.patch(monkeypatch)
    stop = halt.stop

    def refuses(ready: Ready) -> halt.Halted:
        if ready.stack == "new":
            raise Failure("its host is gone")
        return stop(ready)

    monkeypatch.setattr(halt, "stop", refuses)
    with pytest.raises(Failure, match="it broke"):
        move.move("old", "new", yes=True)
    assert runner.steps[-1] == "start old"


def test_nothing_is_done_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner()
    with pytest.raises(Failure, match="old is the stack that is to be moved"):
        moved(monkeypatch, runner, to="old")
    assert runner.steps == []


@pytest.mark.parametrize("backup", [None, {"mode": "none"}])
def test_without_backups_there_is_nothing_done(monkeypatch: pytest.MonkeyPatch, backup: object) -> None:
    runner = FakeRunner(settings={"prefect-environment:backup": backup})
    with pytest.raises(Failure, match=r"new has no backups.*Set backup\.mode: managed in Pulumi\.new\.yaml"):
        moved(monkeypatch, runner)
    assert runner.steps == []


class Shell(Engine):
    """An engine whose docker commands are lines for this machine's shell."""

    def _argv(self, words: Sequence[str]) -> list[str]:
        return ["sh", "-c", *words]


def test_what_one_engine_prints_another_one_reads(tmp_path: Path) -> None:
    here, there = Shell("unix:///here"), Shell("unix:///there")
    here.hand_over(["head -c 300000 /dev/zero"], there, [f"wc -c >{tmp_path}/count"])
    assert int((tmp_path / "count").read_text()) == 300000


@pytest.mark.parametrize(
    ("here", "there", "codes"),
    [("echo half; exit 3", "cat >/dev/null", "with 3, .* with 0"), ("exec yes", "exit 4", "with -13, .* with 4")],
)
def test_what_is_not_whole_is_a_failure(here: str, there: str, codes: str) -> None:
    with pytest.raises(Failure, match=codes):
        Shell("unix:///here").hand_over([here], Shell("unix:///there"), [there])


def test_without_a_terminal_nobody_said_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner()
    runner.patch(monkeypatch)
    with pytest.raises(Failure, match="add --yes"):
        move.move("old", "new", yes=False)
    assert runner.steps == []
