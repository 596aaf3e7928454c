"""Running other programs, with a limit in time and a log."""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from scripts.lib.ui import Failure

TAIL = 15
"""Lines of a failed program's output that go into the error."""


@dataclass(frozen=True)
class Ended:
    """How a program ended and what it printed."""

    code: int
    output: str
    errors: str


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    given: str = "",
) -> str:
    """Run a program quietly and return its standard output.

    `given` is its standard input: where secrets belong, as arguments can be read by everybody.

    Raises:
        Failure: as `finish`, or it ends with another code than 0 (the last lines of its output follow).
    """
    ended = finish(argv, timeout=timeout, env=env, cwd=cwd, given=given)
    if ended.code:
        tail = "\n".join(f"  {line}" for line in (ended.output + ended.errors).strip().splitlines()[-TAIL:])
        raise Failure(f"`{' '.join(map(str, argv))}` ended with {ended.code}:\n{tail}")
    return ended.output


def finish(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    given: str = "",
) -> Ended:
    """Run a program quietly to its end, whatever that is; `given` is its standard input.

    Raises:
        Failure: it can't be started, or takes longer than timeout seconds; then it and its children are ended.
    """
    words = [str(word) for word in argv]
    try:
        with subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            cwd=cwd,
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(given, timeout=timeout)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
    except OSError as error:
        raise Failure(f"{words[0]} can't be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"`{' '.join(words)}` took longer than {timeout:.0f} s and was stopped.") from error
    return Ended(process.returncode, output, errors)


def attend(argv: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path, output: IO[str] | None = None) -> int:
    """Run a program on this terminal, for as long as it takes, and return its exit code.

    Args:
        argv: the program and its arguments.
        env: its environment.
        cwd: its working directory.
        output: where its output goes, instead of the terminal.

    An interrupt is the program's to handle: a terminal sends it to both, and were this process to end at
    once, it would take a Pulumi with it that is saving its state. A SIGTERM is handed on as an interrupt.
    """
    with subprocess.Popen([str(word) for word in argv], env=env, cwd=cwd, stdout=output, stderr=output) as process:
        handlers: dict[int, Callable[[int, FrameType | None], None]] = {
            signal.SIGINT: lambda _number, _frame: None,
            signal.SIGTERM: lambda _number, _frame: process.send_signal(signal.SIGINT),
        }
        former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            return process.wait()
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def alive(pid: int) -> bool:
    """Say whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A killed child whose parent has not looked yet still answers.
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
