"""The flow of scripts/logs: what a container of the stack printed, on whichever host it is."""

from collections.abc import Sequence

from scripts.lib import stacks
from scripts.lib.engine import Engine
from scripts.lib.stacks import PROJECT
from scripts.lib.ui import Failure, say

INTERRUPTED = 130


def logs(wanted: str | None, name: str | None, options: Sequence[str]) -> int:
    """Print the logs of a container, or without a name what there is; return the exit code of `docker logs`.

    Args:
        wanted: the stack, None for the one that exists.
        name: the container's logical name, such as `minio`, or its whole one.
        options: of `docker logs` (https://docs.docker.com/reference/cli/docker/container/logs/).

    Raises:
        Failure: there is no such container; or it was not found while an engine does not answer.
    """
    stack = stacks.found(wanted).name
    prefix = f"{PROJECT}-{stack}-"
    containers: dict[str, tuple[Engine, str]] = {}
    silent: Failure | None = None
    for engine in stacks.settings(stack).engines:
        try:
            states = engine.states(PROJECT, stack)
        except Failure as failure:
            silent = failure
        else:
            containers |= {each.removeprefix(prefix): (engine, status) for each, status in states.items()}
    if name is None:
        for each, (engine, status) in sorted(containers.items()):
            say(f"{each:28} {engine.setting:12} {status}")
        if silent:
            raise silent
        return 0
    logical = name.removeprefix(prefix)
    if logical not in containers:
        there = f"It has: {', '.join(sorted(containers))}." if containers else "It has none; scripts/up makes them."
        raise silent or Failure(f"The stack {stack} has no container {logical}. {there}")
    with containers[logical][0].follow("logs", *options, prefix + logical, shown=True) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            return INTERRUPTED
