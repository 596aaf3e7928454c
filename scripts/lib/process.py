"""Running other programs, with a limit in time and a log."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.lib.ui import Failure

TAIL = 15
"""Lines of a failed program's output that go into the error."""


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program quietly and return its standard output.

    Raises:
        Failure: it can't be started, ends with another code than 0 (the last lines of its output follow), or takes
            longer than timeout seconds; then it and its children are ended.
    """
    words = [str(word) for word in argv]
    try:
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            cwd=cwd,
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(timeout=timeout)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
    except OSError as error:
        raise Failure(f"{words[0]} can't be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"`{' '.join(words)}` took longer than {timeout:.0f} s and was stopped.") from error
    if process.returncode:
        tail = "\n".join(f"  {line}" for line in (output + errors).strip().splitlines()[-TAIL:])
        raise Failure(f"`{' '.join(words)}` ended with {process.returncode}:\n{tail}")
    return output


def succeeds(argv: Sequence[str | Path], *, timeout: float, env: Mapping[str, str] | None = None) -> bool:
    """Run a program and say whether it ended well in time."""
    try:
        run(argv, timeout=timeout, env=env)
    except Failure:
        return False
    return True
