"""What is to be seen of a stack: its hosts, containers, servers and certificates, each asked once and for seconds only.

The dataclasses are the shape of `scripts/status --json`, described in docs/status.md: fields are added, never renamed.
"""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from httpx import HTTPError
from minio.error import MinioException
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType, WorkPool
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import PrefectException
from prefect.types import DateTime

from monitor.checks import validity
from providers.connection import (
    CredentialsError,
    MinioConnection,
    PrefectConnection,
    UnreachableError,
    probing,
    reachable,
)
from providers.minio.server import MinioClient, MinioServer
from providers.prefect.server import PrefectServer
from providers.ssh import HostError, SshHost, forwarded
from scripts.lib import stacks
from scripts.lib.engine import Engine
from scripts.lib.recovery import CONTAINER
from scripts.lib.stacks import PROJECT, Stack
from scripts.lib.ui import Failure

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

LABEL = "prefect-environment"
ENGINE_SECONDS = 15.0
"""How long one docker command may take; ssh gives a dead host up before."""
API_SECONDS = 5.0
"""How long one request to a server of the stack may take."""
HTTPS_PORT = 443
EXECS = 4
"""Commands in containers of one host at a time: sshd turns some away when ten sign in at once."""
STORAGE = "prefect-environment:index:FlowStorage"
DOORS = (
    "public_url",
    "public_api_url",
    "public_storage_url",
    "public_storage_console_url",
    "public_metrics_url",
    "public_dashboards_url",
)
"""Outputs that are URLs of the front door."""
BACKUP_MARKS = "/var/lib/backup/"
"""What the paths of the marks begin with that a backup leaves; see images/backup/backup."""
MISSING = "missing"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Disk:
    """A file system of a host that the stack writes to."""

    place: str
    """`containers and volumes` for the engine's data directory, `volumes` where those are elsewhere; or a directory."""
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Host:
    """A Docker host."""

    name: str
    """Path of its settings: `host` or `hosts.<name>`."""
    address: str
    engine: str | None
    """Version; None where it does not answer."""
    error: str | None
    disks: tuple[Disk, ...]


@dataclass(frozen=True)
class Container:
    """A container that the stack's state has, or that bears its marks."""

    name: str
    """Logical name, such as `minio`."""
    host: str
    """The host's `name`."""
    in_state: bool
    on_demand: bool
    """Whether it is started by hand, as the CLI box is."""
    state: str
    """Docker's: created, running, paused, restarting, exited, dead; `missing`; `unknown` where the host is silent."""
    health: str | None
    """starting, healthy or unhealthy; None without a health check."""
    exit_code: int | None
    """Of the last end; None while it runs."""
    started_at: datetime | None
    restarts: int
    """By the engine, since it was made."""
    out_of_memory_kills: int
    """Processes that the kernel ended for want of memory since the container started."""
    ended_out_of_memory: bool
    """Whether it was for want of memory that it ended last; Docker keeps that when it runs again."""
    memory_setting: str
    """What to raise then."""
    pool: str | None
    """The work pool that it serves."""


@dataclass(frozen=True)
class Pool:
    """A work pool."""

    name: str
    paused: bool
    paused_queues: tuple[str, ...]
    workers_online: int
    running: int
    """Flow runs."""
    due: int
    """Flow runs that could start now, late ones included."""
    late: int
    late_since: datetime | None
    """When the first late one should have started."""


@dataclass(frozen=True)
class Prefect:
    """The Prefect server."""

    url: str
    version: str | None
    """None where it does not answer."""
    error: str | None
    pools: tuple[Pool, ...]


@dataclass(frozen=True)
class Dask:
    """The Dask scheduler."""

    url: str
    workers: int | None
    """None where it does not answer."""
    error: str | None


@dataclass(frozen=True)
class Store:
    """MinIO, or another S3 store."""

    url: str
    bucket: str
    used_bytes: int | None
    """As MinIO counted last, which it does in the background; None where it has not yet, or is another's."""
    error: str | None


@dataclass(frozen=True)
class Certificate:
    """The certificate of a host of the front door."""

    host: str
    not_before: datetime | None
    not_after: datetime | None
    error: str | None


@dataclass(frozen=True)
class Backup:
    """How the stack's backups go."""

    last: datetime | None
    """When the last one was made; None before the first."""
    since: datetime
    """When the last one was made or, before the first, when the waiting for it began."""
    failed: bool
    """Whether the last one that the clock ran failed."""
    archived: datetime | None = None
    """Up to when Postgres is saved minute by minute; None where it is not."""


@dataclass(frozen=True)
class Target:
    """Something that Prometheus asks for metrics."""

    name: str
    """Logical name of its container."""
    error: str | None
    """Why the last answer was none."""


@dataclass(frozen=True)
class Metrics:
    """Prometheus."""

    url: str
    targets: tuple[Target, ...]
    """Those that it has asked by now, sorted."""
    error: str | None


@dataclass(frozen=True)
class Facts:
    """All of it; parts that are switched off are None or empty."""

    stack: str
    looked_at: datetime
    hosts: tuple[Host, ...]
    containers: tuple[Container, ...]
    prefect: Prefect | None
    dask: Dask | None
    minio: Store | None
    certificates: tuple[Certificate, ...]
    backup: Backup | None = None
    metrics: Metrics | None = None


@dataclass(frozen=True)
class Wanted:
    """What the state says of a container."""

    provider: str
    """Logical name of the Docker provider that made it."""
    on_demand: bool
    memory_setting: str
    pool: str | None
    listens: Mapping[int, str]
    """Published port to the address that it is published on."""


def look(stack: Stack) -> Facts:
    """Ask everybody at once.

    Raises:
        Failure: the stack's state can't be read.
    """
    with ThreadPoolExecutor() as threads:
        shown = threads.submit(stack.outputs, show_secrets=True)
        settings = threads.submit(stacks.settings, stack.name)
        state = stack.deployment()
        outputs = shown.result()
        via, engines = settings.result().via, settings.result().engines
        wanted = wanted_containers(state)
        hosts = [threads.submit(_host, engine, stack.name, wanted) for engine in engines]
        doors = [threads.submit(_certificate, *door, via) for door in _doors(outputs, wanted)]
        prefect = threads.submit(_prefect, outputs, via) if "prefect_api_url" in outputs else None
        dask = threads.submit(_dask, outputs, via) if "dask_dashboard_url" in outputs else None
        minio = threads.submit(_store, outputs, _bucket(state), via) if "minio_url" in outputs else None
        metrics = threads.submit(_metrics, outputs, via) if "prometheus_url" in outputs else None
        seen = [each.result() for each in hosts]
        return Facts(
            stack=stack.name,
            looked_at=datetime.now(UTC),
            hosts=tuple(each.host for each in seen),
            containers=tuple(sorted((each for there in seen for each in there.containers), key=lambda each: each.name)),
            prefect=prefect.result() if prefect else None,
            dask=dask.result() if dask else None,
            minio=minio.result() if minio else None,
            certificates=tuple(each.result() for each in doors),
            backup=next((each.backup for each in seen if each.backup), None),
            metrics=metrics.result() if metrics else None,
        )


@dataclass(frozen=True)
class There:
    """What is seen of a host."""

    host: Host
    containers: tuple[Container, ...] = ()
    backup: Backup | None = None


def wanted_containers(state: Mapping[str, Any]) -> dict[str, Wanted]:
    """Return what an exported state says of the stack's containers, by logical name."""
    found = {}
    for resource in stacks.resources(state, CONTAINER):
        inputs = resource["inputs"]
        labels = {each["label"]: each["value"] for each in inputs.get("labels") or []}
        command = inputs.get("command") or []
        found[resource["urn"].rpartition("::")[2]] = Wanted(
            provider=resource["provider"].split("::")[-2],
            on_demand=inputs.get("start") is False,
            memory_setting=labels.get(f"{LABEL}.memory-setting", "its memory_mb"),
            pool=command[command.index("--pool") + 1] if "--pool" in command else None,
            listens={int(each["external"]): each.get("ip", "") for each in inputs.get("ports") or []},
        )
    return found


def _bucket(state: Mapping[str, Any]) -> str:
    return next((str(each["outputs"]["bucket"]) for each in stacks.resources(state, STORAGE)), "")


def _host(engine: Engine, stack: str, wanted: Mapping[str, Wanted]) -> There:
    provider = "docker" if engine.setting == "host" else f"docker-host-{engine.setting.partition('.')[2]}"
    ours = {name: each for name, each in wanted.items() if each.provider == provider}
    try:
        version = engine.docker("version", "--format", "{{.Server.Version}}", timeout=ENGINE_SECONDS).strip()
        inspected = engine.inspected(PROJECT, stack, timeout=ENGINE_SECONDS)
    except Failure as failure:
        error = str(failure).splitlines()[-1].strip()
        silent = tuple(_unseen(name, engine.setting, each, UNKNOWN) for name, each in ours.items())
        return There(Host(engine.setting, engine.host, None, error, ()), silent)
    with ThreadPoolExecutor(EXECS) as threads:
        seen = list(threads.map(lambda each: _inside(engine, each), inspected))
    names = [each["Config"]["Labels"][f"{LABEL}.name"] for each in inspected]
    containers = [
        _container(name, engine.setting, ours.get(name), each, inner.kills)
        for name, each, inner in zip(names, inspected, seen, strict=True)
    ]
    missing = [_unseen(name, engine.setting, each, MISSING) for name, each in ours.items() if name not in names]
    disks: dict[str, Disk] = {}
    for disk in (disk for inner in seen for disk in inner.disks):
        # One file system is seen by many, under several names.
        if disk.total_bytes not in {each.total_bytes for each in disks.values()}:
            disks.setdefault(disk.place, disk)
    host = Host(engine.setting, engine.host, version, None, tuple(disks.values()))
    return There(host, (*containers, *missing), next((inner.backup for inner in seen if inner.backup), None))


def _unseen(name: str, host: str, wanted: Wanted, state: str) -> Container:
    return Container(
        name=name,
        host=host,
        in_state=True,
        on_demand=wanted.on_demand,
        state=state,
        health=None,
        exit_code=None,
        started_at=None,
        restarts=0,
        out_of_memory_kills=0,
        ended_out_of_memory=False,
        memory_setting=wanted.memory_setting,
        pool=wanted.pool,
    )


def _container(name: str, host: str, wanted: Wanted | None, inspected: Mapping[str, Any], kills: int) -> Container:
    now, labels = inspected["State"], inspected["Config"]["Labels"]
    started = now["StartedAt"]
    return Container(
        name=name,
        host=host,
        in_state=wanted is not None,
        on_demand=wanted is not None and wanted.on_demand,
        state=now["Status"],
        health=now["Health"]["Status"] if "Health" in now else None,
        exit_code=None if now["Running"] else now["ExitCode"],
        # Docker's time before the first start is in the year 1.
        started_at=None if started.startswith("0001") else datetime.fromisoformat(started),
        restarts=inspected["RestartCount"],
        out_of_memory_kills=kills,
        ended_out_of_memory=now["OOMKilled"],
        memory_setting=labels.get(f"{LABEL}.memory-setting", "its memory_mb"),
        pool=wanted.pool if wanted else None,
    )


@dataclass(frozen=True)
class Inside:
    """What is seen from inside of a container."""

    kills: int = 0
    disks: tuple[Disk, ...] = ()
    backup: Backup | None = None


def _inside(engine: Engine, inspected: Mapping[str, Any]) -> Inside:
    """Look from inside of a running container: no engine's API tells of a child's death or of the host's disk."""
    if inspected["State"]["Status"] != "running":
        return Inside()
    places = {"/": "containers and volumes"}
    for mount in inspected["Mounts"]:
        places[mount["Destination"]] = mount["Source"] if mount["Type"] == "bind" else "volumes"
    # Control groups of version 2, and of version 1.
    counters = "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null"
    marks = f"stat -c '%n %Y' {BACKUP_MARKS}* 2>/dev/null"
    script = f'{counters}; {marks}; df -P -k "$@" 2>/dev/null; true'
    try:
        said = engine.docker("exec", inspected["Id"], "sh", "-c", script, "sh", *places, timeout=ENGINE_SECONDS)
    except Failure:
        # It ended meanwhile, or its image has no shell; others tell of the disk.
        return Inside()
    return inside(said, places)


def inside(said: str, places: Mapping[str, str]) -> Inside:
    """Read a control group's counters, the backup's marks with their times, and the lines of `df -P -k`.

    Args:
        said: one after the other.
        places: path in the container to what it is called on the host.
    """
    killed = re.search(r"^oom_kill (\d+)$", said, re.MULTILINE)
    lines = re.findall(r"^\S.*?\s\d+\s+(\d+)\s+(\d+)\s+\d+%\s+(/.*)$", said, re.MULTILINE)
    disks = [
        # Less than the whole: some of it is only root's.
        Disk(places[path], (int(used) + int(free)) * 1024, int(free) * 1024)
        for used, free, path in lines
        if path in places
    ]
    marked = re.findall(rf"^{BACKUP_MARKS}(attempt|succeeded|failed|archived) (\d+)$", said, re.MULTILINE)
    return Inside(int(killed[1]) if killed else 0, tuple(disks), _backup(dict(marked)))


def _backup(marks: Mapping[str, str]) -> Backup | None:
    times = {mark: datetime.fromtimestamp(int(seconds), UTC) for mark, seconds in marks.items()}
    if "attempt" not in times:
        return None
    last = times.get("succeeded")
    return Backup(last, last or times["attempt"], failed="failed" in times, archived=times.get("archived"))


def _prefect(outputs: Mapping[str, Any], via: SshHost | None) -> Prefect:
    url = outputs["prefect_api_url"]
    connection = PrefectConnection(server="prefect", url=url, auth=outputs["prefect_api_auth_string"])
    if via:
        connection["via"] = via

    def ask(client: SyncPrefectClient) -> Prefect:
        pools = client.read_work_pools()
        return Prefect(url, client.api_version(), None, tuple(_pool(client, pool) for pool in pools))

    try:
        return probing(PrefectServer(), [connection], ask, timeout=API_SECONDS)
    except (UnreachableError, CredentialsError, HostError, HTTPError, PrefectException) as error:
        return Prefect(url, None, _reason(error), ())


def _pool(client: SyncPrefectClient, pool: WorkPool) -> Pool:
    here = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool.name]))
    running = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])))
    due = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=DateTime.now("UTC")),
    )
    late = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Late"])))
    first = client.read_flow_runs(
        flow_run_filter=late, work_pool_filter=here, sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC, limit=1
    )
    return Pool(
        name=pool.name,
        paused=pool.is_paused,
        paused_queues=tuple(each.name for each in client.read_work_queues(pool.name) if each.is_paused),
        workers_online=sum(each.status == "ONLINE" for each in client.read_workers_for_work_pool(pool.name)),
        running=client.count_flow_runs(flow_run_filter=running, work_pool_filter=here),
        due=client.count_flow_runs(flow_run_filter=due, work_pool_filter=here),
        late=client.count_flow_runs(flow_run_filter=late, work_pool_filter=here),
        late_since=first[0].next_scheduled_start_time if first else None,
    )


def _dask(outputs: Mapping[str, Any], via: SshHost | None) -> Dask:
    url = outputs["dask_dashboard_url"]
    try:
        return Dask(url, int(_told(f"{reachable(url, via)}/json/counts.json")["workers"]), None)
    except (OSError, ValueError, KeyError, HTTPException, HostError) as error:
        return Dask(url, None, _reason(error))


def _metrics(outputs: Mapping[str, Any], via: SshHost | None) -> Metrics:
    url = outputs["prometheus_url"]
    try:
        # https://prometheus.io/docs/prometheus/latest/querying/api/#targets
        active = _told(f"{reachable(url, via)}/api/v1/targets?state=active")["data"]["activeTargets"]
        # One is asked for metrics of several kinds: any failure of these is its own.
        errors: dict[str, str] = {}
        for each in active:
            if each["health"] != UNKNOWN:
                errors[each["labels"]["instance"]] = each["lastError"] or errors.get(each["labels"]["instance"], "")
        return Metrics(url, tuple(Target(name, error or None) for name, error in sorted(errors.items())), None)
    except (OSError, ValueError, KeyError, HTTPException, HostError) as error:
        return Metrics(url, (), _reason(error))


def _told(url: str) -> dict[str, Any]:
    """What a server on loopback answers, past the user's proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=API_SECONDS) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def _store(outputs: Mapping[str, Any], bucket: str, via: SshHost | None) -> Store:
    url = outputs["minio_url"]
    if "minio_root_user" not in outputs:
        return _another_store(url, bucket)
    connection = MinioConnection(
        server="minio", url=url, access_key=outputs["minio_root_user"], secret_key=outputs["minio_root_password"]
    )
    if via:
        connection["via"] = via

    def ask(client: MinioClient) -> Store:
        # Counted by MinIO in the background, so it costs the same however much there is.
        told: str = client.admin.get_data_usage_info()  # type: ignore[no-untyped-call]
        usage = json.loads(told).get("bucketsUsageInfo") or {}
        return Store(url, bucket, usage.get(bucket, {}).get("size"), None)

    try:
        return probing(MinioServer(), [connection], ask, timeout=API_SECONDS)
    except (UnreachableError, CredentialsError, HostError, MinioException, ValueError) as error:
        return Store(url, bucket, None, _reason(error))


def _another_store(url: str, bucket: str) -> Store:
    """Whether somebody's own store is there; its key is in the settings alone."""
    place = urlsplit(url)
    try:
        socket.create_connection((place.hostname, place.port or HTTPS_PORT), API_SECONDS).close()
    except OSError as error:
        return Store(url, bucket, None, _reason(error))
    return Store(url, bucket, None, None)


def _doors(outputs: Mapping[str, Any], wanted: Mapping[str, Wanted]) -> Iterator[tuple[str, int, str]]:
    """Name and port of each host of the front door, and the address on the Docker host where it is served."""
    portal = ["portal_url"] if "authelia" in wanted else []
    for output in (*DOORS, *portal):
        if output in outputs:
            url = urlsplit(outputs[output])
            port = url.port or HTTPS_PORT
            # A Caddy that is there already listens on all addresses, for all we know.
            address = wanted["caddy"].listens.get(port, "") if "caddy" in wanted else ""
            yield str(url.hostname), port, address if address not in {"", "0.0.0.0"} else "127.0.0.1"  # noqa: S104


def _certificate(host: str, port: int, address: str, via: SshHost | None) -> Certificate:
    try:
        place = ("127.0.0.1", forwarded(via, port, address)) if via else (address, port)
        return Certificate(host, *validity(place, host, API_SECONDS), None)
    except (OSError, ValueError, HostError) as error:
        return Certificate(host, None, None, _reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, CredentialsError):
        return f"it refuses the stack's credential ({error})"
    return str(error) if isinstance(error, HostError) else f"it does not answer ({error})"
