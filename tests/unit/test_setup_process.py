"""Other programs: their failures, their time limit, who handles an interrupt; and the user's consent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.lib import ui
from scripts.lib.engine import Engine
from scripts.lib.paths import ROOT
from scripts.lib.process import alive, run
from scripts.lib.setup import admit_plugin
from scripts.lib.ui import Consent, Failure


def test_a_failure_shows_the_command_and_the_end_of_its_output() -> None:
    with pytest.raises(Failure, match=r"(?s)`sh -c .*` ended with 3:\n.*the reason"):
        run(["sh", "-c", "echo the reason >&2; exit 3"], timeout=10)


def test_a_program_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(Failure, match="no-such-program can't be started"):
        run(["no-such-program"], timeout=10)


def test_at_the_time_limit_the_children_end_too(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with pytest.raises(Failure, match="took longer than 1 s"):
        run(["sh", "-c", f"sleep 60 & echo $! > {file}; wait"], timeout=1)
    child = int(file.read_text())
    end = time.monotonic() + 5
    while time.monotonic() < end and alive(child):
        time.sleep(0.02)
    assert not alive(child)


@pytest.mark.parametrize(("number", "to_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_an_interrupted_program_ends_in_its_own_time(tmp_path: Path, number: signal.Signals, to_group: bool) -> None:
    saved = tmp_path / "saved"
    program = f"""
import pathlib, sys, time
print("up", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)
    pathlib.Path({str(saved)!r}).touch()
    sys.exit(7)
"""
    attending = f"""
import os, pathlib, sys
from scripts.lib.process import attend
sys.exit(attend([sys.executable, "-c", {program!r}], env=os.environ, cwd=pathlib.Path.cwd()))
"""
    with subprocess.Popen(
        [sys.executable, "-c", attending], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.2)
        (os.killpg if to_group else os.kill)(process.pid, number)
        assert process.wait(20) == 7
    assert saved.exists()


def test_one_plan_is_asked_about_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    questions: list[str] = []

    def answer(question: str) -> str:
        questions.append(question)
        return "y"

    monkeypatch.setattr(ui, "terminal", lambda: True)
    monkeypatch.setattr("builtins.input", answer)
    consent = Consent(given=False)
    consent.obtain([])
    consent.obtain(["build a"])
    consent.obtain(["build a", "build b"])
    assert len(questions) == 1
    assert capsys.readouterr().out.count("build a") == 1


def test_no_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "terminal", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "")
    with pytest.raises(Failure, match="nothing was done"):
        Consent(given=False).obtain(["build a"])
    Consent(given=True).obtain(["build a"])


def test_without_a_terminal_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "terminal", lambda: False)
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("asked"))
    Consent(given=False).obtain(["build a"])


def test_an_engine_that_refuses_the_built_plugin_is_named_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """One from 29 on, which Debian 12 has not; the answer is what such an engine gives."""
    answers = {"unix:///old": "1.12\n", "unix:///new": "1.44\n"}
    monkeypatch.setattr(Engine, "docker", lambda self, *_words, **_limit: answers[self.host])
    admit_plugin([Engine("unix:///old")])
    with pytest.raises(Failure, match=r"unix:///new refuses .*API\s+1\.44 .*1\.41") as caught:
        admit_plugin([Engine("unix:///old"), Engine("unix:///new")])
    assert '{"min-api-version": "1.41"}' in str(caught.value)
