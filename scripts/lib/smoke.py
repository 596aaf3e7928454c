"""The flow of scripts/smoke: run a deployment through the API and see for ourselves what it did."""

import json
import os
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, Log, TaskRun
from prefect.client.schemas.sorting import LogSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from providers.connection import CredentialsError, PrefectConnection, UnreachableError, reachable, waiting
from providers.prefect.server import PrefectServer
from providers.ssh import HostError, SshHost
from scripts.lib import stacks
from scripts.lib.engine import Engine
from scripts.lib.environment import pulumi_environment
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Failure, say

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

GREETINGS = "greetings"
"""The flow that tells which host each of its tasks ran on, which is checked, too."""
GREETING = re.compile(r"(hello|goodbye) (.+) \(on (\S+)\)")
LABEL = "prefect-environment"
DASK_WORKER = "dask-worker-"
PREFECT_WORKER = "prefect-worker-"
READY_SECONDS = 60.0
"""How long the API may take to answer at first."""
SETTLE_SECONDS = 20.0
"""Task runs and logs reach the API a little after the flow run has ended."""
PAGE = 200
AUTH_SETTING = "PREFECT_API_AUTH_STRING"
"""Prefect's own setting of the credential (https://docs.prefect.io/v3/api-ref/settings-ref)."""


@dataclass(frozen=True)
class Container:
    """One container of the stack, running or not."""

    name: str
    """Its logical name, such as dask-worker-1."""
    host: str
    running: bool
    out_of_memory: bool
    """The kernel ended it, or a process in it, for want of memory."""
    memory_setting: str
    place: str = ""
    """` on <address>` where its engine is another machine's."""


@dataclass(frozen=True)
class Target:
    """Where to run, and what is known of the stack around it."""

    api_url: str
    dashboard_url: str | None = None
    stack: str | None = None
    engines: Sequence[Engine] = ()
    """Those that answer."""
    auth: str | None = field(default=None, repr=False)
    """`user:password` of the API."""
    via: SshHost | None = None
    """The host whose loopback the URLs are on, where that is not this machine."""

    def containers(self, killed: Collection[str] = ()) -> list[Container]:
        """Return the stack's containers, none where no engine answers; `killed` is from `out_of_memory`."""
        found = [(engine, each) for engine in self.engines for each in engine.inspected(PROJECT, self.stack or "")]
        labels = [each["Config"]["Labels"] for _, each in found]
        return [
            Container(
                name=label[f"{LABEL}.name"],
                host=each["Config"]["Hostname"],
                running=each["State"]["Running"],
                out_of_memory=each["State"]["OOMKilled"] or label[f"{LABEL}.name"] in killed,
                memory_setting=label.get(f"{LABEL}.memory-setting", "its memory_mb"),
                place=f" on {engine.host}" if engine.via else "",
            )
            for (engine, each), label in zip(found, labels, strict=True)
        ]

    @contextmanager
    def out_of_memory(self) -> Iterator[Callable[[], set[str]]]:
        """Watch for kernel kills; yield what ends that and returns the logical names of those containers.

        A container's state tells only of its main process, and forgets it at the next start; a flow run or a
        worker of Dask is a child, killed while that lives on.
        """
        chosen = ["event=oom", f"label={LABEL}.project={PROJECT}", f"label={LABEL}.stack={self.stack}"]
        words = [word for each in chosen for word in ("--filter", each)]
        shown = f'{{{{index .Actor.Attributes "{LABEL}.name"}}}}'
        with ExitStack() as stack:
            events = [stack.enter_context(each.follow("events", *words, "--format", shown)) for each in self.engines]
            for each in events:
                stack.callback(each.terminate)

            def ended() -> set[str]:
                names: set[str] = set()
                for each in events:
                    each.terminate()
                    names.update(each.communicate()[0].split())
                return names

            yield ended


def target(wanted: str | None, api_url: str | None) -> Target:
    """Find the API: as given, with the credential of Prefect's own setting; else in the outputs of the stack.

    Raises:
        Failure: the stack has no Prefect server.
    """
    if api_url:
        return Target(api_url, auth=os.environ.get(AUTH_SETTING))
    env = pulumi_environment()
    stack = stacks.choose(wanted, env).name
    known = Stack(stack, env)
    outputs = known.outputs()
    if "prefect_api_url" not in outputs:
        raise Failure(
            f"The stack {stack} has no Prefect server, so there is nothing to run: "
            "`scripts/up` makes it, unless the setting profiles.orion is false."
        )
    settings = stacks.settings(stack)
    answering = [each for each in settings.engines if each.answers()]
    return Target(
        api_url=outputs["prefect_api_url"],
        dashboard_url=outputs.get("dask_dashboard_url"),
        stack=stack,
        engines=answering,
        auth=known.secret("prefect_api_auth_string"),
        via=settings.via,
    )


def smoke(where: Target, deployment: str, timeout: float) -> int:
    """Run a deployment, follow it, and return 0 if all of it is as it should be.

    Args:
        where: the API, and the stack around it where that is known.
        deployment: "<flow>/<deployment>".
        timeout: seconds until the run must have ended; it is cancelled then.

    Raises:
        Failure: it can't be started.
    """
    connection = PrefectConnection(server="prefect", url=where.api_url)
    if where.auth:
        connection["auth"] = where.auth
    if where.via:
        connection["via"] = where.via
    server = PrefectServer()
    try:
        # Right after an `up` the server may still be starting.
        waiting(server, [connection], lambda client: client.hello(), seconds=READY_SECONDS)
        with server.session(connection, 30) as client:
            return _smoke(client, where, deployment, timeout)
    except UnreachableError as error:
        raise Failure(f"The Prefect API at {where.api_url} does not answer ({error}): see `docker ps`.") from None
    except HostError as error:
        raise Failure(str(error)) from None
    except CredentialsError as error:
        raise Failure(
            f"The Prefect API at {where.api_url} refuses us ({error}): "
            + (
                "its credential was changed since the last `scripts/up`."
                if where.stack
                else f"put the credential into {AUTH_SETTING}; the stack's output prefect_api_auth_string is it."
            )
        ) from None


def _smoke(client: "SyncPrefectClient", where: Target, deployment: str, timeout: float) -> int:
    try:
        known = client.read_deployment_by_name(deployment)
    except ObjectNotFound:
        raise Failure(f"There is no deployment {deployment} at {where.api_url}: has `pulumi up` ended well?") from None
    with where.out_of_memory() as ended:
        run = client.create_flow_run_from_deployment(known.id)
        say(f"{deployment}: flow run {run.name}, {where.api_url.removesuffix('/api')}/runs/flow-run/{run.id}")
        run = _follow(client, run, timeout)
        killed = ended()
    problems = list(_run_problems(run, timeout))
    if run.state and run.state.is_completed() and deployment.startswith(f"{GREETINGS}/"):
        problems += _settled_problems(client, where, run)
    if not problems:
        say(f"✓ {deployment} is Completed{_proof(where, deployment)}")
        return 0
    say("\nLogs of the flow run:")
    for entry in _logs(client, run):
        say(f"  {entry.timestamp:%H:%M:%S} {entry.message}")
    say(f"Its task runs: {_states(client, run) or 'none'}")
    pool = known.work_pool_name
    online = sum(worker.status == "ONLINE" for worker in client.read_workers_for_work_pool(pool)) if pool else 0
    dask = dask_workers(where.dashboard_url, where.via)
    problems += diagnose(pool or "", online, dask, where.containers(killed))
    say("\n" + "\n".join(f"✗ {problem}" for problem in problems))
    return 1


def _proof(where: Target, deployment: str) -> str:
    if not deployment.startswith(f"{GREETINGS}/"):
        return ""
    return ", and so is every task, on Dask" if where.engines else ", and so is every task (their hosts: not checked)"


def _follow(client: "SyncPrefectClient", run: FlowRun, timeout: float) -> FlowRun:
    start = time.monotonic()
    shown = None
    while True:
        run = client.read_flow_run(run.id)
        if run.state_name != shown:
            shown = run.state_name
            say(f"  {time.monotonic() - start:5.1f} s  {shown}")
        if run.state and run.state.is_final():
            return run
        if time.monotonic() - start > timeout:
            # Else it would start when nobody looks any more.
            client.set_flow_run_state(run.id, Cancelling(message="scripts/smoke waited long enough"))
            return run
        time.sleep(1)


def _run_problems(run: FlowRun, timeout: float) -> Iterator[str]:
    if run.state is None or not run.state.is_final():
        yield f"the flow run was still {run.state_name} after {timeout:.0f} s, and was cancelled"
    elif not run.state.is_completed():
        yield f"the flow run is {run.state_name}: {run.state.message or 'no reason given'}"


def _settled_problems(client: "SyncPrefectClient", where: Target, run: FlowRun) -> list[str]:
    """Look until all is as it should be, or long enough."""
    containers = where.containers()
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        tasks = _task_runs(client, run)
        problems = list(greetings_problems(run.parameters["names"], tasks, _logs(client, run), containers))
        if not problems or time.monotonic() > end:
            return problems
        time.sleep(1)


def _logs(client: "SyncPrefectClient", run: FlowRun) -> list[Log]:
    logs: list[Log] = []
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    for page in count():
        logs += (more := client.read_logs(chosen, limit=PAGE, offset=page * PAGE, sort=LogSort.TIMESTAMP_ASC))
        if len(more) < PAGE:
            break
    return logs


def _task_runs(client: "SyncPrefectClient", run: FlowRun) -> list[TaskRun]:
    flow_runs = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    return client.read_task_runs(flow_run_filter=flow_runs, limit=PAGE)


def _states(client: "SyncPrefectClient", run: FlowRun) -> str:
    counted = Counter(task.state_name for task in _task_runs(client, run))
    return ", ".join(f"{number} {name}" for name, number in counted.most_common())


def greetings_problems(
    names: Sequence[str], tasks: Sequence[TaskRun], logs: Iterable[Log], containers: Iterable[Container]
) -> Iterator[str]:
    """Say what is missing of a flow run `greetings`: a Completed state alone proves little.

    Args:
        names: whom it greets; each gets two tasks.
        tasks: its task runs.
        logs: its logs, in which each task says whom it greets, and where.
        containers: the stack's; without them the hosts can't be judged.
    """
    wanted = 2 * len(names)
    completed = [task for task in tasks if task.state and task.state.is_completed()]
    if not len(completed) == len(tasks) == wanted:
        yield f"{len(completed)} of {len(tasks)} task runs are Completed; all of {wanted} should be"
    said = [match for entry in logs if entry.task_run_id and (match := GREETING.fullmatch(entry.message))]
    greeted = sorted(match.group(1, 2) for match in said)
    expected = sorted((word, name) for name in names for word in ("hello", "goodbye"))
    for word, name in sorted({*expected} - {*greeted}):
        yield f"no task logged `{word} {name}`"
    if len(greeted) > len(expected):
        yield f"{len(greeted)} greetings were logged, {len(expected)} should be"
    hosts = {match.group(3) for match in said}
    everywhere = list(containers)
    dask = {each.host for each in everywhere if each.name.startswith(DASK_WORKER)}
    prefect = {each.host for each in everywhere if each.name.startswith(PREFECT_WORKER)}
    # An external cluster's hosts are not ours to know; those of the flow runs are.
    for host in sorted(hosts - dask if dask else hosts & prefect):
        yield f"tasks ran on {host}, which is no Dask worker"


def dask_workers(dashboard_url: str | None, via: SshHost | None = None) -> int | None:
    """Return how many workers the Dask scheduler has, 0 where it is silent; None where there is none."""
    if not dashboard_url:
        return None
    try:
        with urllib.request.urlopen(f"{reachable(dashboard_url, via)}/json/counts.json", timeout=5) as answer:  # noqa: S310
            return int(json.load(answer)["workers"])
    except (OSError, ValueError, KeyError, HostError):
        return 0


def diagnose(pool: str, online: int, dask: int | None, containers: Sequence[Container]) -> Iterator[str]:
    """Say what may be behind a failed run, and how to mend it.

    Args:
        pool: the deployment's work pool.
        online: how many workers of it are online.
        dask: how many workers the Dask scheduler has; None without a scheduler of the stack's own.
        containers: the stack's.
    """
    if not online:
        yield f"no worker is online in the work pool {pool}: {_stopped(containers, PREFECT_WORKER)}"
    if dask == 0:
        yield f"the Dask scheduler has no workers: {_stopped(containers, DASK_WORKER)}"
    for each in containers:
        if each.out_of_memory:
            yield f"{each.host} ran out of memory: raise {each.memory_setting} and run `scripts/up`"


def _stopped(containers: Iterable[Container], prefix: str) -> str:
    ours = [each for each in containers if each.name.startswith(prefix)]
    stopped: dict[str, list[str]] = {}
    for each in ours:
        if not each.running:
            stopped.setdefault(each.place, []).append(each.host)
    if stopped:
        return " and ".join(f"`docker start {' '.join(names)}`{place}" for place, names in stopped.items())
    if ours:
        return f"see `docker logs {ours[0].host}`{ours[0].place}"
    return "the stack has none, see the settings below `profiles`"
