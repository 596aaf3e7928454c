"""Whose lock is stale, and whose processes are orphans."""

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scripts.lib import recovery
from scripts.lib.recovery import Lock
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Failure

SINCE = "2026-01-01T10:00:00.123456789Z"


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def write_lock(backend: Path, stack: str, pid: int, host: str) -> None:
    directory = backend / ".pulumi" / "locks" / "organization" / PROJECT / stack
    directory.mkdir(parents=True, exist_ok=True)
    content = {"pid": pid, "username": "ann", "hostname": host, "timestamp": SINCE}
    (directory / f"{pid}.json").write_text(json.dumps(content))
    (directory / f"{pid}.json.attrs").write_text("{}")


def test_only_a_dead_process_of_this_host_leaves_a_stale_lock() -> None:
    here = socket.gethostname()
    assert Lock(dead_pid(), here, "ann", SINCE).stale()
    assert not Lock(os.getpid(), here, "ann", SINCE).stale()
    assert not Lock(dead_pid(), f"not-{here}", "ann", SINCE).stale()


def test_locks_of_other_stacks_do_not_count(tmp_path: Path) -> None:
    write_lock(tmp_path, "dev", 7, "somewhere")
    write_lock(tmp_path, "other", 8, "somewhere")
    assert recovery.locks(tmp_path / ".pulumi", "dev") == [Lock(7, "somewhere", "ann", SINCE)]


def test_a_lock_that_may_be_alive_is_an_error_with_holder_and_age(tmp_path: Path) -> None:
    write_lock(tmp_path, "dev", 7, "somewhere")
    stack = Stack("dev", {"PULUMI_BACKEND_URL": tmp_path.as_uri()})
    with pytest.raises(Failure, match=r"ann@somewhere, process 7, \d+ min ago") as failure:
        recovery._unlock(stack)
    assert "scripts/pulumi cancel --yes --stack dev" in str(failure.value)


def test_the_age_of_a_lock_with_nanoseconds() -> None:
    assert recovery.age(SINCE, datetime(2026, 1, 1, 10, 42, 30, tzinfo=UTC)) == "42 min ago"


@pytest.mark.skipif(not Path("/proc").exists(), reason="processes are told apart through /proc")
def test_only_processes_with_the_mark_of_a_dead_run_on_this_stack_are_ended() -> None:
    url = "file:///somewhere"
    dead = dead_pid()
    marks = {
        "orphan": f"dev@{dead} {url}",
        "alive": f"dev@{os.getpid()} {url}",
        "other stack": f"dev-mirror@{dead} {url}",
        "other backend": f"dev@{dead} {url}/else",
        "none": "",
    }
    sleeping = [sys.executable, "-c", "print(flush=True); import time; time.sleep(60)"]
    processes = {
        name: subprocess.Popen(sleeping, stdout=subprocess.PIPE, env={**os.environ, recovery.MARK: mark})
        for name, mark in marks.items()
    }
    try:
        for process in processes.values():
            assert process.stdout
            process.stdout.readline()
        recovery._end_orphans(Stack("dev", {"PULUMI_BACKEND_URL": url}))
        assert {name for name, process in processes.items() if process.poll() is not None} == {"orphan"}
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
