"""Stopping what writes to a stack's data, and starting it again."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from scripts.lib.engine import Engine
from scripts.lib.setup import Ready
from scripts.lib.stacks import PROJECT
from scripts.lib.ui import Failure, step

WRITERS = ("prefect-worker-", "dask-worker-", "prefect-server")
"""What the names of those begin with that write; the server last, as the others report to it."""
STOP_SECONDS = 7200.0
"""Limit for one container; a worker lets its flow runs end for as long as its drain_seconds say."""
START_SECONDS = 300.0


@dataclass(frozen=True)
class Halted:
    """What was stopped, in that order."""

    ready: Ready
    containers: tuple[tuple[Engine, str], ...]

    def start(self) -> None:
        """Start it again: the server first, and wait for it. What is no more there is left out."""
        with step("start server and workers"):
            there = {name for each in self.ready.engines for name in each.states(PROJECT, self.ready.stack)}
            for engine, name in reversed(self.containers):
                if name not in there:
                    continue
                engine.docker("start", name)
                if name.endswith("-prefect-server"):
                    _wait(engine, name)


def stop(ready: Ready) -> Halted:
    """Stop workers, and then the server; flow runs may end first. Where one does not stop, all run again."""
    states = [(engine, sorted(engine.states(PROJECT, ready.stack).items())) for engine in ready.engines]
    running = [
        (engine, name)
        for first in WRITERS
        for engine, there in states
        for name, status in there
        if name.startswith(f"{PROJECT}-{ready.stack}-{first}") and status.startswith("Up")
    ]
    stopped = Halted(ready, tuple(running))
    try:
        with step("stop workers and server"):
            for engine, name in running:
                engine.docker("stop", name, timeout=STOP_SECONDS)
    except BaseException:
        stopped.start()
        raise
    return stopped


@contextmanager
def halted(ready: Ready) -> Iterator[None]:
    """Stop what writes, and start it again whatever happens."""
    stopped = stop(ready)
    try:
        yield
    finally:
        stopped.start()


def _wait(engine: Engine, name: str) -> None:
    end = time.monotonic() + START_SECONDS
    while engine.docker("inspect", "--format", "{{.State.Health.Status}}", name).strip() != "healthy":
        if time.monotonic() > end:
            raise Failure(f"{name} does not answer after {START_SECONDS:.0f} s; see scripts/logs prefect-server.")
        time.sleep(1)
