"""The flow of scripts/status: facts to problems, a table that is read in five seconds, and an exit code."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from monitor.limits import Limits, archive_is_late
from scripts.lib import stacks
from scripts.lib.engine import LOCAL_SOCKET
from scripts.lib.facts import MISSING, Certificate, Container, Facts, Host, Pool, look
from scripts.lib.stacks import PROJECT
from scripts.lib.ui import say

WELL, DEGRADED, UNTOLD = 0, 1, 2
"""Exit codes."""
RECENT = timedelta(hours=1)
"""For how long a restart is worth a look."""
DEFAULT = Limits()
STOPPED = frozenset({"created", "exited", "dead"})
"""States in which a container does not run."""
DASK_WORKER = "dask-worker-"
PROMETHEUS = "prometheus"


@dataclass(frozen=True)
class Problem:
    """Something that needs a look."""

    part: str
    """hosts, containers, prefect, dask, minio, certificates, backup or metrics: the part of the facts that it is of."""
    what: str
    """Its name there."""
    meaning: str
    fix: str
    """With the command that mends it, or that says more."""
    untold: bool = False
    """Whether it keeps us from seeing how things are."""


def status(wanted: str | None, *, as_json: bool) -> int:
    """Look at a stack, print what is seen, and return the exit code.

    Raises:
        Failure: there is no such stack, or its state can't be read.
    """
    stack = stacks.found(wanted)
    facts = look(stack)
    problems = list(judge(facts, stacks.settings(stack.name).limits))
    code = exit_code(problems)
    if as_json:
        shape = {"exit_code": code, "problems": [asdict(each) for each in problems], **asdict(facts)}
        say(json.dumps(shape, indent=2, default=datetime.isoformat))
    else:
        say("\n".join(table(facts, problems)))
    return code


def exit_code(problems: Iterable[Problem]) -> int:
    """Return 0 where all is well, 2 where a host can't be seen, else 1."""
    return max((UNTOLD if each.untold else DEGRADED for each in problems), default=WELL)


def judge(facts: Facts, limits: Limits = DEFAULT) -> Iterator[Problem]:
    """Say what needs a look, causes first."""
    for host in facts.hosts:
        yield from _host_problems(host, limits)
    troubled = set()
    for each in facts.containers:
        if found := _container_problem(each, facts):
            troubled.add(each.name)
            yield Problem("containers", each.name, *found)
    # What is on a host that is silent is reached through it; what a container serves, through the container.
    if facts.hosts[0].engine is not None:
        yield from _prefect_problems(facts, troubled)
        yield from _dask_problems(facts, troubled)
        yield from _minio_problems(facts, troubled)
        yield from _certificate_problems(facts, troubled, limits)
        yield from _backup_problems(facts, troubled, limits)
        yield from _metrics_problems(facts, troubled)


def _host_problems(host: Host, limits: Limits) -> Iterator[Problem]:
    if host.engine is None:
        fix = f"Once `docker --host {host.address} version` answers, look again"
        yield Problem("hosts", host.name, f"its engine can't be asked: {host.error}", fix, untold=True)
    for disk in host.disks:
        if limits.disk_is_low(disk.total_bytes, disk.free_bytes):
            meaning = (
                f"{_size(disk.free_bytes)} of {_size(disk.total_bytes)} are free for {disk.place}: "
                "Postgres and MinIO stop when it is full"
            )
            fix = f"`docker image prune`{_on(host)} removes what no container uses; else it needs a larger disk"
            yield Problem("hosts", host.name, meaning, fix)


def _container_problem(each: Container, facts: Facts) -> tuple[str, str] | None:
    """What is wrong with a container, and how to mend it."""
    stack, whole = facts.stack, f"{PROJECT}-{facts.stack}-{each.name}"
    place = next(_on(host) for host in facts.hosts if host.name == each.host)
    log = f"`scripts/logs {each.name} --tail 50 --stack {stack}`"
    age = facts.looked_at - each.started_at if each.started_at else RECENT
    service = not each.on_demand
    again = each.restarts > 0 and age < RECENT
    verdicts = [
        (
            not each.in_state,
            "it is no part of the stack: an `up` that was ended left it",
            f"`docker rm --force {whole}`{place}",
        ),
        (
            each.state == MISSING,
            "it is in the stack's state, and gone from its host",
            f"`scripts/pulumi up --refresh --stack {stack}` makes it again",
        ),
        (
            each.out_of_memory_kills > 0 or (each.ended_out_of_memory and (again or each.state in STOPPED)),
            f"it ran out of memory, and the kernel ended {_count(max(each.out_of_memory_kills, 1), 'process')} in it",
            # A raised limit may hold for the container as it runs, with its count.
            (
                f"Raise {each.memory_setting} in Pulumi.{stack}.yaml, run `scripts/up --stack {stack}`, "
                f"and let it count anew with `docker restart {whole}`{place}"
            ),
        ),
        (
            service and each.state == "paused",
            "it is frozen: whoever calls it waits",
            f"`docker unpause {whole}`{place}",
        ),
        (
            service and each.state == "restarting",
            f"it ends right after each start, {each.restarts} times by now, with {each.exit_code}",
            f"See {log}",
        ),
        (
            service and each.state in STOPPED,
            f"it is stopped; it ended with {each.exit_code}",
            f"See {log}; `docker start {whole}`{place}",
        ),
        (
            each.health == "unhealthy",
            "it runs, and fails its health check",
            f"See {log}; `docker restart {whole}`{place}",
        ),
        (
            again,
            f"it ended by itself and was started again {_span(age)} ago, {_count(each.restarts, 'time')} in all",
            f"See `scripts/logs {each.name} --since 2h --stack {stack}`",
        ),
    ]
    return next(((meaning, fix) for holds, meaning, fix in verdicts if holds), None)


def _prefect_problems(facts: Facts, troubled: Collection[str]) -> Iterator[Problem]:
    if facts.prefect is None:
        return
    if facts.prefect.error and "prefect-server" not in troubled:
        see = f"See `scripts/logs prefect-server --tail 50 --stack {facts.stack}`"
        yield Problem("prefect", "Prefect", f"{facts.prefect.error}: no flow run starts or ends", see)
    for pool in facts.prefect.pools:
        yield from _pool_problems(pool, facts)


def _pool_problems(pool: Pool, facts: Facts) -> Iterator[Problem]:
    prefect = f"scripts/connect --stack {facts.stack} -- prefect"
    workers = [each.name for each in facts.containers if each.pool == pool.name and each.state == "running"]
    causes = ["no worker is online"] if not pool.workers_online else []
    if pool.workers_online < len(workers):
        meaning = f"{pool.workers_online} of {len(workers)} running workers are online"
        see = f"See `scripts/logs {workers[0]} --tail 50 --stack {facts.stack}`"
        yield Problem("prefect", pool.name, meaning, see)
    if pool.paused:
        causes.append("the pool is paused")
        fix = f"`{prefect} work-pool resume {pool.name}`"
        yield Problem("prefect", pool.name, "it is paused: its flow runs wait", fix)
    for queue in pool.paused_queues:
        causes.append(f"the queue {queue} is paused")
        fix = f"`{prefect} work-queue resume {queue} --pool {pool.name}`"
        yield Problem("prefect", pool.name, f"its queue {queue} is paused: the flow runs in it wait", fix)
    if pool.late:
        waited = f", the first by {_span(facts.looked_at - pool.late_since)}" if pool.late_since else ""
        why = " and ".join(causes) or "the workers are busy, or a limit holds the runs back"
        # What mends a cause is told where that is.
        fix = f"See `{prefect} flow-run ls --state Late`" + ("" if causes else "; raise `replicas` of the worker")
        yield Problem("prefect", pool.name, f"{_count(pool.late, 'flow run')} late{waited}: {why}", fix)


def _dask_problems(facts: Facts, troubled: Collection[str]) -> Iterator[Problem]:
    if facts.dask is None:
        return
    workers = [each.name for each in facts.containers if each.name.startswith(DASK_WORKER) and each.state == "running"]
    see = "See `scripts/logs {} --tail 50 --stack " + f"{facts.stack}`"
    if facts.dask.workers is None:
        if "dask-scheduler" not in troubled:
            yield Problem("dask", "Dask", f"{facts.dask.error}: tasks wait", see.format("dask-scheduler"))
    elif facts.dask.workers < len(workers):
        meaning = f"{facts.dask.workers} of {len(workers)} running workers have joined the scheduler"
        yield Problem("dask", "Dask", meaning, see.format(workers[0]))


def _minio_problems(facts: Facts, troubled: Collection[str]) -> Iterator[Problem]:
    if facts.minio and facts.minio.error and "minio" not in troubled:
        ours = any(each.name == "minio" for each in facts.containers)
        log = f"See `scripts/logs minio --tail 50 --stack {facts.stack}`"
        meaning = f"{facts.minio.error}: flows get no code and keep no results"
        yield Problem("minio", "MinIO", meaning, log if ours else f"Ask who runs {facts.minio.url}")


def _certificate_problems(facts: Facts, troubled: Collection[str], limits: Limits) -> Iterator[Problem]:
    if "caddy" in troubled:
        return
    ours = any(each.name == "caddy" for each in facts.containers)
    log = f"`scripts/logs caddy --since 24h --stack {facts.stack}`" if ours else "the logs of your Caddy"
    for door in facts.certificates:
        if meaning := _certificate_trouble(door, facts.looked_at, limits):
            yield Problem("certificates", door.host, meaning, f"See {log}")


def _certificate_trouble(door: Certificate, now: datetime, limits: Limits) -> str | None:
    if door.not_after is None or door.not_before is None:
        return f"{door.error}: nobody gets in there"
    left, whole = door.not_after - now, door.not_after - door.not_before
    if left < timedelta():
        return f"its certificate ended {_span(-left)} ago: browsers refuse it"
    if limits.ends_soon(left, whole):
        return f"its certificate ends in {_span(left)}, and was not renewed"
    return None


def _backup_problems(facts: Facts, troubled: Collection[str], limits: Limits) -> Iterator[Problem]:
    if facts.backup is None or "backup" in troubled:
        return
    age = facts.looked_at - facts.backup.since
    if facts.backup.failed or limits.backup_is_old(age):
        what = "the last one failed" if facts.backup.failed else f"none was made for {_span(age)}"
        fix = f"See `scripts/logs backup --tail 50 --stack {facts.stack}`; `scripts/backup --stack {facts.stack}`"
        yield Problem("backup", "backup", what, f"{fix} makes one now")
    archived = facts.backup.archived
    # From one that does not run nothing comes.
    if archived and "postgres" not in troubled and archive_is_late(facts.looked_at - archived):
        what = f"what happened in Postgres in the last {_span(facts.looked_at - archived)} is in no backup"
        yield Problem("backup", "backup", what, f"See `scripts/logs backup --tail 50 --stack {facts.stack}`")


def _metrics_problems(facts: Facts, troubled: Collection[str]) -> Iterator[Problem]:
    if facts.metrics is None or PROMETHEUS in troubled:
        return
    log = "See `scripts/logs {} --tail 50 --stack " + f"{facts.stack}`"
    if facts.metrics.error:
        yield Problem("metrics", PROMETHEUS, f"{facts.metrics.error}: nothing is measured", log.format(PROMETHEUS))
    servers = {
        "prefect-server": facts.prefect,
        "prefect-exporter": facts.prefect,
        "dask-scheduler": facts.dask,
        "minio": facts.minio,
    }
    told = {*troubled, *(name for name, server in servers.items() if server and server.error)}
    for target in facts.metrics.targets:
        if target.error and target.name not in told:
            meaning = f"it gives Prometheus no metrics ({target.error})"
            yield Problem("metrics", target.name, meaning, log.format(target.name))


def table(facts: Facts, problems: Iterable[Problem]) -> Iterator[str]:
    """Show it all: what is the matter, a line for each part, and a line for each problem."""
    problems = list(problems)
    verdict = {
        WELL: "all is well",
        DEGRADED: _count(len(problems), "problem"),
        UNTOLD: "not all of it can be seen",
    }[exit_code(problems)]
    yield f"stack {facts.stack}: {verdict}\n"
    for row in _rows(facts):
        concerned = [each for each in problems if each.part == row.part and row.what in {None, each.what}]
        yield f"{_mark(concerned)} {row.title:14} {row.text}"
    if problems:
        yield ""
    for each in problems:
        yield f"{_mark([each])} {each.what}: {each.meaning}. {each.fix}."


@dataclass(frozen=True)
class _Row:
    part: str
    what: str | None
    """As in the problems that it is about; None: all of the part."""
    title: str
    text: str


def _rows(facts: Facts) -> Iterator[_Row]:
    for host in facts.hosts:
        disks = [f"{_size(each.free_bytes)} free for {each.place}" for each in host.disks]
        engine = f"engine {host.engine}" if host.engine else "does not answer"
        yield _Row("hosts", host.name, host.name, ", ".join([host.address, engine, *disks]))
    yield _Row("containers", None, "containers", _counted(facts.containers))
    if facts.prefect:
        yield _Row("prefect", "Prefect", "Prefect", facts.prefect.version or "does not answer")
        for pool in facts.prefect.pools:
            runs = f"flow runs: {pool.running} running, {pool.due} due, {pool.late} late"
            workers = f"{_count(pool.workers_online, 'worker')} online"
            yield _Row("prefect", pool.name, pool.name, f"{workers}; {runs}{'; paused' if pool.paused else ''}")
    if facts.dask:
        joined = facts.dask.workers
        yield _Row("dask", None, "Dask", "does not answer" if joined is None else _count(joined, "worker"))
    if facts.minio:
        used = (
            "answers" if facts.minio.used_bytes is None else f"{_size(facts.minio.used_bytes)} in {facts.minio.bucket}"
        )
        yield _Row("minio", None, "MinIO", "does not answer" if facts.minio.error else used)
    if facts.certificates:
        ends = [each.not_after for each in facts.certificates if each.not_after]
        first = f", the first ends in {_span(min(ends) - facts.looked_at)}" if ends else ""
        yield _Row("certificates", None, "certificates", f"{len(ends)} of {len(facts.certificates)}{first}")
    if facts.metrics:
        targets = facts.metrics.targets
        given = f"{sum(not each.error for each in targets)} of {len(targets)} targets answer"
        yield _Row("metrics", None, "metrics", "does not answer" if facts.metrics.error else given)
    if facts.backup:
        last = facts.backup.last
        told = f"the last one {_span(facts.looked_at - last)} ago" if last else "none yet"
        if facts.backup.archived:
            told += f"; Postgres up to {_span(facts.looked_at - facts.backup.archived)} ago"
        yield _Row("backup", None, "backup", told)


def _counted(containers: Iterable[Container]) -> str:
    """How many there are, and how many of them are otherwise than they should be."""
    services = [each for each in containers if each.in_state and not each.on_demand]
    running = sum(each.state == "running" for each in services)
    states = Counter(each.state for each in services if each.state != "running")
    states += Counter(
        each.health for each in services if each.state == "running" and each.health not in {None, "healthy"}
    )
    return ", ".join([f"{running} of {len(services)} run", *(f"{count} {state}" for state, count in states.items())])


def _mark(problems: Iterable[Problem]) -> str:
    return {WELL: "✓", DEGRADED: "✗", UNTOLD: "?"}[exit_code(problems)]


def _on(host: Host) -> str:
    """Where to type a docker command, if not here."""
    return "" if host.address == f"unix://{LOCAL_SOCKET}" else f" on {host.address}"


def _count(number: int, noun: str) -> str:
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{'' if number == 1 else plural}"


def _size(count: float) -> str:
    power = min(4, int(math.log(max(count, 1), 1000)))
    return f"{count / 1000**power:.3g} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def _span(time: timedelta) -> str:
    seconds = time.total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
