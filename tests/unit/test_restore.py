"""A restore: the order of its steps, and what starts again, by a runner that only notes what it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from scripts.lib import halt, policy, restore, versions
from scripts.lib.backup import Box, Snapshot
from scripts.lib.engine import Engine
from scripts.lib.setup import Ready
from scripts.lib.ui import Failure

CHOSEN = Snapshot("22222222", datetime(2026, 3, 4, tzinfo=UTC), "manual")


@dataclass
class FakeRunner:
    """Stands in for all that does something to a stack."""

    fails_at: str = ""
    steps: list[str] = field(default_factory=list)

    def note(self, step: str) -> None:
        self.steps.append(step)
        if step == self.fails_at:
            raise Failure("it broke")

    def save(self, *_: object) -> Snapshot:
        self.note("backup")
        return Snapshot("11111111", CHOSEN.time, "before-restore")

    def do(self, *words: str) -> None:
        self.note(" ".join(words))

    @contextmanager
    def halted(self, _ready: Ready) -> Iterator[None]:
        self.note("stop")
        try:
            yield
        finally:
            self.note("start")


def restored(patch: pytest.MonkeyPatch, runner: FakeRunner, running: str | None, **exact: bool) -> Snapshot:
    def update(_stack: object, *words: str, yes: bool) -> None:
        assert yes
        runner.note(" ".join(words))

    patch.setattr(halt, "halted", runner.halted)
    patch.setattr(policy, "prepare", lambda env: ([], env))
    patch.setattr(versions, "running", lambda _: running)
    patch.setattr(versions, "locked", lambda: "3.8.8")
    patch.setattr(versions, "forget", lambda _: runner.note("forget the version"))
    patch.setattr(restore, "update", update)
    return restore.bring_back(Ready("s", (), {}), cast("Box", runner), CHOSEN, exact=exact.get("exact", False))


def test_what_is_there_is_backed_up_before_and_all_is_made_right_after(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner()
    assert restored(monkeypatch, runner, "3.8.8").id == "11111111"
    assert runner.steps == ["stop", "backup", "restore 22222222", "start", "up --refresh"]


def test_exact_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = FakeRunner()
    restored(monkeypatch, runner, "3.8.8", exact=True)
    assert "restore 22222222 exact" in runner.steps


@pytest.mark.parametrize("running", ["3.9.1", None])
def test_another_prefect_is_brought_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, running: str | None
) -> None:
    """The newer one would migrate the database of the older one again."""
    runner = FakeRunner()
    restored(monkeypatch, runner, running)
    first_up = ["forget the version", "up"]
    assert runner.steps == ["stop", "backup", "restore 22222222", *first_up, "start", "up --refresh"]


@pytest.mark.parametrize("step", ["restore 22222222", "up --refresh"])
def test_where_it_fails_all_runs_and_the_way_back_is_told(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    runner = FakeRunner(fails_at=step)
    with pytest.raises(Failure, match=r"(?s)it broke.*scripts/restore --stack s --snapshot 11111111"):
        restored(monkeypatch, runner, "3.8.8")
    assert "start" in runner.steps


class FakeEngine(Engine):
    """One with a stack's containers, of which some refuse to stop or have gone meanwhile."""

    def __init__(self, *, refuses: str = "", gone: str = "") -> None:
        super().__init__("unix:///nowhere")
        self.refuses, self.gone = refuses, gone
        self.asked: list[str] = []

    def states(self, project: str, stack: str) -> dict[str, str]:
        status = {
            "prefect-server": "Up 2 days (healthy)",
            "prefect-worker-dask-1": "Up 2 days",
            "dask-worker-1": "Exited (0) 2 days ago",
            "postgres": "Up 2 days",
        }
        names = {f"{project}-{stack}-{name}": text for name, text in status.items()}
        return {name: text for name, text in names.items() if not (self.asked and name.endswith(self.gone or " "))}

    def docker(self, *words: str, **_: Any) -> str:
        if words[0] == "inspect":
            return "healthy\n"
        self.asked.append(f"{words[0]} {words[-1].removeprefix('prefect-environment-s-')}")
        if words[0] == "stop" and words[-1].endswith(self.refuses or " "):
            raise Failure("it broke")
        return ""


def test_workers_stop_before_the_server_and_start_after_it() -> None:
    engine = FakeEngine()
    with halt.halted(Ready("s", (engine,), {})):
        assert engine.asked == ["stop prefect-worker-dask-1", "stop prefect-server"]
    assert engine.asked[2:] == ["start prefect-server", "start prefect-worker-dask-1"]


def test_where_one_does_not_stop_all_run_again() -> None:
    engine = FakeEngine(refuses="prefect-server")
    with pytest.raises(Failure):
        halt.stop(Ready("s", (engine,), {}))
    assert engine.asked[2:] == ["start prefect-server", "start prefect-worker-dask-1"]


def test_what_an_up_has_removed_is_not_started() -> None:
    engine = FakeEngine(gone="prefect-worker-dask-1")
    with halt.halted(Ready("s", (engine,), {})):
        pass
    assert engine.asked[2:] == ["start prefect-server"]
