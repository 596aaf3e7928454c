"""What the user sees: a step list with times, one question, errors with a fix."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TICK = 0.5
"""Seconds between two looks at a running step on a terminal."""
PLAIN_TICK = 30.0
"""Seconds between two signs of life without a terminal."""


class Failure(Exception):  # noqa: N818  (a word for users, not a programming error)
    """What went wrong, what follows from it, and how to mend it, for the user to read."""


class Step:
    """A step while it runs."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.note = ""
        """What came out of it, shown behind the title."""
        self._start = time.monotonic()

    def seconds(self) -> float:
        """Return how long it has been running."""
        return time.monotonic() - self._start

    def line(self, mark: str) -> str:
        """Return the step as one line."""
        note = f": {self.note}" if self.note else ""
        return f"{mark} {self.title}{note} ({self.seconds():.1f} s)"


def terminal() -> bool:
    """Say whether someone sits there, to read and to answer."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Show a step: live with its time on a terminal, else plain lines at its end and now and then before."""
    running = Step(title)
    live = sys.stdout.isatty()
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(TICK if live else PLAIN_TICK):
            text = running.line("…")
            sys.stdout.write(f"\r\033[K{text}" if live else f"{text}\n")
            sys.stdout.flush()

    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    mark = "✗"
    try:
        yield running
        mark = "✓"
    finally:
        ended.set()
        ticker.join()
        say(f"\r\033[K{running.line(mark)}" if live else running.line(mark))


class Consent:
    """The user's word for what takes long or changes the machine: asked for once, or given by --yes."""

    def __init__(self, *, given: bool) -> None:
        self._given = given
        self._shown: set[str] = set()

    def obtain(self, plan: list[str]) -> None:
        """Show a plan and ask; a plan that was shown before is not shown again.

        Raises:
            Failure: the user said no.
        """
        plan = [item for item in plan if item not in self._shown]
        self._shown.update(plan)
        if not plan:
            return
        say("To be done:\n" + "\n".join(f"  - {item}" for item in plan))
        if not self._given and terminal():
            confirm("Go on?")
        self._given = True


def must_be_asked(effect: str, *, yes: bool) -> None:
    """Refuse what has an effect that nobody has agreed to, where nobody can be asked.

    Raises:
        Failure: neither a yes nor a terminal.
    """
    if not yes and not terminal():
        raise Failure(f"{effect} and there is no terminal to ask at: add --yes.")


def confirm(question: str) -> None:
    """Ask for a yes.

    Raises:
        Failure: the answer was anything else.
    """
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in {"y", "yes"}:
        raise Failure("Stopped, nothing was done.")


def run_main(main: Callable[[list[str]], int]) -> None:
    """Run a script's main function; a Failure is printed without a traceback and gives exit code 1."""
    try:
        sys.exit(main(sys.argv[1:]))
    except Failure as failure:
        sys.exit(f"{sys.argv[0]}: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
