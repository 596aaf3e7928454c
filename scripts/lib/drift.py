"""The flow of scripts/drift: what was changed on the hosts behind the program's back."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from scripts.lib import stacks
from scripts.lib.engine import Engine, absent
from scripts.lib.preview import CHANGES, ask
from scripts.lib.recovery import CONTAINER
from scripts.lib.setup import set_up
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Consent, Failure, say

PAUSED = "(Paused)"


def drift(wanted: str | None) -> int:
    """List containers that do not run, then everything that a refresh finds changed; return the exit code.

    Raises:
        Failure: there is no such stack, or a host's engine does not answer.
    """
    ready = set_up(wanted, Consent(given=False), engines=False)
    stack = Stack(ready.stack, ready.env)
    if stack.name not in stacks.existing(ready.env):
        raise Failure(f"There is no stack {stack.name}; scripts/up makes it.")
    stopped = list(not_running(stack.deployment(), states(ready.engines, stack.name)))
    done = ask(ready, ["--refresh", "--expect-no-changes"])
    say("\n" + "\n".join([*stopped, *done.report.lines()]))
    if done.code not in {0, CHANGES}:
        say(f"stack {stack.name}: {done.outcome()}")
        return done.code
    count = len(stopped) + len(done.report.changes)
    say(f"stack {stack.name}: {f'drift, {count} in all' if count else 'no drift'}")
    return CHANGES if count else 0


def states(engines: Iterable[Engine], stack: str) -> dict[str, str]:
    """Map the names of a stack's containers to what their engines say of them, such as `Exited (0) 2 hours ago`.

    Raises:
        Failure: an engine does not answer.
    """
    found: dict[str, str] = {}
    for engine in engines:
        if not engine.answers():
            raise absent(engine)
        found |= engine.states(PROJECT, stack)
    return found


def not_running(state: Mapping[str, Any], found: Mapping[str, str]) -> Iterator[str]:
    """Say which containers of a stack's state do not run, though they should.

    Args:
        state: as `pulumi stack export` gives it.
        found: container to its status, as `docker ps` gives it.
    """
    for resource in stacks.resources(state, CONTAINER):
        name = resource["inputs"]["name"]
        status = found.get(name, "gone")
        if resource["inputs"].get("start", True) and (not status.startswith("Up") or PAUSED in status):
            yield f"! {name} does not run: {status}"
