"""From facts to problems, an exit code and a table: what scripts/status makes of what it sees."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from scripts.lib import stacks, status
from scripts.lib.facts import (
    Backup,
    Certificate,
    Container,
    Dask,
    Disk,
    Facts,
    Host,
    Metrics,
    Pool,
    Prefect,
    Store,
    Target,
    inside,
    wanted_containers,
)
from scripts.lib.paths import ROOT
from scripts.lib.stacks import Stack
from scripts.lib.status import Problem, exit_code, judge, table

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
GB = 10**9
SSH = "ssh://ops@prefect.example.com"


def container(name: str, **changes: object) -> Container:
    healthy = Container(
        name=name,
        host="host",
        in_state=True,
        on_demand=False,
        state="running",
        health="healthy",
        exit_code=None,
        started_at=NOW - timedelta(days=3),
        restarts=0,
        out_of_memory_kills=0,
        ended_out_of_memory=False,
        memory_setting=f"{name}.memory_mb",
        pool="dask-pool" if name.startswith("prefect-worker") else None,
    )
    return replace(healthy, **changes)  # type: ignore[arg-type]


POOL = Pool("dask-pool", paused=False, paused_queues=(), workers_online=1, running=0, due=0, late=0, late_since=None)
CERTIFICATE = Certificate("tasks.example.com", NOW - timedelta(days=40), NOW + timedelta(days=50), None)
NAMES = ("postgres", "prefect-server", "prefect-worker-dask-1", "dask-scheduler", "dask-worker-1", "minio", "caddy")
WELL = Facts(
    stack="prod",
    looked_at=NOW,
    hosts=(Host("host", SSH, "28.0", None, (Disk("containers and volumes", 100 * GB, 50 * GB),)),),
    containers=(*(container(name) for name in NAMES), container("prefect-cli", on_demand=True, state="created")),
    prefect=Prefect("http://127.0.0.1:4200/api", "3.8.8", None, (POOL,)),
    dask=Dask("http://127.0.0.1:8787", 1, None),
    minio=Store("http://127.0.0.1:9000", "flows", 5288, None),
    certificates=(CERTIFICATE,),
    backup=Backup(NOW - timedelta(hours=9), NOW - timedelta(hours=9), failed=False),
    metrics=Metrics("http://127.0.0.1:9090", (Target("minio", None), Target("prefect-exporter", None)), None),
)


def with_container(name: str, **changes: object) -> Facts:
    others = [each for each in WELL.containers if each.name != name]
    return replace(WELL, containers=(*others, container(name, **changes)))


def with_pool(**changes: object) -> Facts:
    assert WELL.prefect
    return replace(WELL, prefect=replace(WELL.prefect, pools=(replace(POOL, **changes),)))  # type: ignore[arg-type]


def with_disk(total: float, free: float) -> Facts:
    [host] = WELL.hosts
    return replace(WELL, hosts=(replace(host, disks=(Disk("/srv/minio", int(total * GB), int(free * GB)),)),))


def with_certificate(since: timedelta, left: timedelta, error: str | None = None) -> Facts:
    return replace(WELL, certificates=(Certificate("tasks.example.com", NOW - since, NOW + left, error),))


def with_backup(last: float | None, *, since: float, failed: bool = False) -> Facts:
    """Times in hours before now."""
    made = None if last is None else NOW - timedelta(hours=last)
    return replace(WELL, backup=Backup(made, NOW - timedelta(hours=since), failed=failed))


def archived(minutes: float) -> Facts:
    """Postgres is saved minute by minute, the last time so many ago."""
    return replace(WELL, backup=Backup(NOW, NOW, failed=False, archived=NOW - timedelta(minutes=minutes)))


def told(facts: Facts) -> str:
    return "\n".join(table(facts, list(judge(facts))))


def test_all_is_well() -> None:
    assert list(judge(WELL)) == []
    assert exit_code([]) == 0
    assert told(WELL).splitlines() == [
        "stack prod: all is well",
        "",
        f"✓ host           {SSH}, engine 28.0, 50 GB free for containers and volumes",
        "✓ containers     7 of 7 run",
        "✓ Prefect        3.8.8",
        "✓ dask-pool      1 worker online; flow runs: 0 running, 0 due, 0 late",
        "✓ Dask           1 worker",
        "✓ MinIO          5.29 kB in flows",
        "✓ certificates   1 of 1, the first ends in 50 d",
        "✓ metrics        2 of 2 targets answer",
        "✓ backup         the last one 9 h ago",
    ]


def test_parts_that_are_switched_off_are_not_missed() -> None:
    bare = replace(
        WELL,
        prefect=None,
        dask=None,
        minio=None,
        certificates=(),
        backup=None,
        metrics=None,
        containers=(container("postgres"),),
    )
    assert list(judge(bare)) == []
    assert [line.split()[1] for line in told(bare).splitlines()[2:]] == ["host", "containers"]


WHOLE = "prefect-environment-prod-"
CASES = {
    "stopped": (
        with_container("minio", state="exited", health=None, exit_code=137),
        (
            "minio: it is stopped; it ended with 137. "
            f"See `scripts/logs minio --tail 50 --stack prod`; `docker start {WHOLE}minio` on {SSH}."
        ),
    ),
    "missing": (
        with_container("postgres", state="missing", health=None),
        (
            "postgres: it is in the stack's state, and gone from its host. "
            "`scripts/pulumi up --refresh --stack prod` makes it again."
        ),
    ),
    "the box is missing, too": (
        with_container("prefect-cli", on_demand=True, state="missing"),
        "prefect-cli: it is in the stack's state, and gone from its host",
    ),
    "frozen": (
        with_container("minio", state="paused"),
        f"minio: it is frozen: whoever calls it waits. `docker unpause {WHOLE}minio` on {SSH}.",
    ),
    "again and again": (
        with_container("caddy", state="restarting", restarts=12, exit_code=1),
        "caddy: it ends right after each start, 12 times by now, with 1. See `scripts/logs caddy",
    ),
    "unhealthy": (
        with_container("prefect-server", health="unhealthy"),
        "prefect-server: it runs, and fails its health check. See `scripts/logs prefect-server",
    ),
    "once more": (
        with_container("minio", restarts=2, started_at=NOW - timedelta(minutes=20)),
        "minio: it ended by itself and was started again 20 min ago, 2 times in all",
    ),
    "out of memory": (
        with_container("dask-worker-1", out_of_memory_kills=2, memory_setting="dask.memory_mb"),
        (
            "dask-worker-1: it ran out of memory, and the kernel ended 2 processes in it. "
            "Raise dask.memory_mb in Pulumi.prod.yaml, run `scripts/up --stack prod`, "
            f"and let it count anew with `docker restart {WHOLE}dask-worker-1` on {SSH}."
        ),
    ),
    "ended out of memory": (
        with_container("minio", state="exited", health=None, exit_code=137, ended_out_of_memory=True),
        "minio: it ran out of memory, and the kernel ended 1 process in it. Raise minio.memory_mb",
    ),
    "once more out of memory": (
        with_container("minio", restarts=1, started_at=NOW - timedelta(minutes=20), ended_out_of_memory=True),
        "minio: it ran out of memory, and the kernel ended 1 process in it. Raise minio.memory_mb",
    ),
    "a stray": (
        with_container("stray", in_state=False),
        (
            "stray: it is no part of the stack: an `up` that was ended left it. "
            f"`docker rm --force {WHOLE}stray` on {SSH}."
        ),
    ),
    "API": (
        replace(WELL, prefect=Prefect("", None, "it does not answer (ReadTimeout)", ())),
        "Prefect: it does not answer (ReadTimeout): no flow run starts or ends. See `scripts/logs prefect-server",
    ),
    "offline": (
        with_pool(workers_online=0),
        "dask-pool: 0 of 1 running workers are online. See `scripts/logs prefect-worker-dask-1",
    ),
    "paused": (
        with_pool(paused=True),
        (
            "dask-pool: it is paused: its flow runs wait. "
            "`scripts/connect --stack prod -- prefect work-pool resume dask-pool`."
        ),
    ),
    "queue": (
        with_pool(paused_queues=("dask-queue",)),
        (
            "dask-pool: its queue dask-queue is paused: the flow runs in it wait. "
            "`scripts/connect --stack prod -- prefect work-queue resume dask-queue --pool dask-pool`."
        ),
    ),
    "late": (
        with_pool(due=4, late=3, late_since=NOW - timedelta(minutes=12)),
        (
            "dask-pool: 3 flow runs late, the first by 12 min: the workers are busy, or a limit holds the runs back. "
            "See `scripts/connect --stack prod -- prefect flow-run ls --state Late`; raise `replicas` of the worker."
        ),
    ),
    "Dask": (
        replace(WELL, dask=Dask("", None, "it does not answer")),
        "Dask: it does not answer: tasks wait. See `scripts/logs dask-scheduler",
    ),
    "Dask's worker": (
        replace(WELL, dask=Dask("", 0, None)),
        "Dask: 0 of 1 running workers have joined the scheduler. See `scripts/logs dask-worker-1",
    ),
    "MinIO": (
        replace(WELL, minio=Store("", "flows", None, "it refuses the stack's credential (AccessDenied)")),
        "MinIO: it refuses the stack's credential (AccessDenied): flows get no code and keep no results.",
    ),
    "disk": (
        with_disk(40, 3.2),
        (
            "host: 3.2 GB of 40 GB are free for /srv/minio: Postgres and MinIO stop when it is full. "
            f"`docker image prune` on {SSH} removes what no container uses"
        ),
    ),
    "large disk": (with_disk(4000, 19), "host: 19 GB of 4 TB are free"),
    "no certificate": (
        replace(WELL, certificates=(Certificate("tasks.example.com", None, None, "it does not answer (EOF)"),)),
        "tasks.example.com: it does not answer (EOF): nobody gets in there. See `scripts/logs caddy --since 24h",
    ),
    "old certificate": (
        with_certificate(timedelta(days=80), timedelta(days=10)),
        "tasks.example.com: its certificate ends in 10 d, and was not renewed",
    ),
    "dead certificate": (
        with_certificate(timedelta(days=93), timedelta(days=-3)),
        "tasks.example.com: its certificate ended 3 d ago: browsers refuse it",
    ),
    "failed backup": (with_backup(20, since=20, failed=True), "backup: the last one failed. See `scripts/logs backup"),
    "old backup": (with_backup(31, since=31), "backup: none was made for 31 h"),
    "late archive": (archived(11), "backup: what happened in Postgres in the last 11 min is in no backup. See"),
    "first backup": (with_backup(None, since=31), "backup: none was made for 31 h"),
    "day's certificate": (
        with_certificate(timedelta(hours=10), timedelta(hours=2)),
        "tasks.example.com: its certificate ends in 2 h, and was not renewed",
    ),
}


@pytest.mark.parametrize(("facts", "line"), CASES.values(), ids=CASES)
def test_a_problem_names_the_thing_what_it_means_and_what_mends_it(facts: Facts, line: str) -> None:
    [problem] = judge(facts)
    assert exit_code([problem]) == 1
    shown = told(facts)
    assert shown.splitlines()[-1].startswith(f"✗ {line}")
    assert shown.startswith("stack prod: 1 problem\n")
    assert shown.count("✗") == 2, "the part's own line, and the problem's"


@pytest.mark.parametrize(
    "facts",
    [
        with_container("minio", restarts=2, started_at=NOW - timedelta(hours=2)),
        with_container("minio", started_at=NOW - timedelta(minutes=1), ended_out_of_memory=True),
        with_container("minio", health="starting", started_at=NOW - timedelta(seconds=5)),
        with_container("prefect-cli", on_demand=True, state="exited", exit_code=0),
        with_disk(4000, 21),
        with_disk(40, 4.1),
        with_certificate(timedelta(days=75), timedelta(days=15)),
        with_certificate(timedelta(hours=9), timedelta(hours=3)),
        with_pool(due=100),
        with_backup(29, since=29),
        archived(9),
        with_backup(None, since=20),
    ],
)
def test_what_is_no_problem(facts: Facts) -> None:
    assert list(judge(facts)) == []


def test_a_cause_is_told_once() -> None:
    """What a dead server no longer serves is not told beside it."""
    stopped = with_container("prefect-server", state="exited", health=None, exit_code=0)
    assert [each.what for each in judge(replace(stopped, prefect=CASES["API"][0].prefect))] == ["prefect-server"]
    stopped = with_container("prefect-worker-dask-1", state="exited", health=None, exit_code=0)
    assert WELL.prefect
    offline = replace(WELL.prefect, pools=(replace(POOL, workers_online=0, late=1),))
    worker, late = judge(replace(stopped, prefect=offline))
    assert "docker start" in worker.fix
    assert late.meaning == "1 flow run late: no worker is online"


def test_a_silent_first_host_is_told_alone_and_with_a_code_of_its_own() -> None:
    error = "the host does not answer over ssh"
    unseen = tuple(replace(each, state="unknown", health=None) for each in WELL.containers)
    silent = replace(WELL, hosts=(Host("host", SSH, None, error, ()),), containers=unseen)
    silent = replace(silent, prefect=CASES["API"][0].prefect, dask=CASES["Dask"][0].dask)
    [problem] = judge(silent)
    assert problem.untold
    assert exit_code([problem, Problem("dask", "Dask", "", "")]) == 2
    shown = told(silent)
    assert "not all of it can be seen" in shown
    assert f"? host: its engine can't be asked: {error}" in shown
    assert "0 of 7 run, 7 unknown" in shown


def test_a_silent_further_host_hides_only_what_is_on_it() -> None:
    gpu = Host("hosts.gpu", "ssh://ops@gpu", None, "it is off", ())
    there = container("dask-worker-gpu-1", host="hosts.gpu", state="unknown", health=None)
    seen = with_pool(paused=True)
    problems = list(judge(replace(seen, hosts=(*seen.hosts, gpu), containers=(*seen.containers, there))))
    assert [each.what for each in problems] == ["hosts.gpu", "dask-pool"]
    assert exit_code(problems) == 2


def test_who_gives_no_metrics() -> None:
    assert WELL.metrics
    down = Target("minio", "server returned HTTP status 403 Forbidden")
    facts = replace(WELL, metrics=replace(WELL.metrics, targets=(down, Target("prefect-exporter", None))))
    [problem] = judge(facts)
    assert (problem.part, problem.what) == ("metrics", "minio")
    assert "403 Forbidden" in problem.meaning
    assert "scripts/logs minio" in problem.fix
    assert "✗ metrics        1 of 2 targets answer" in told(facts)
    silent = replace(WELL, metrics=Metrics("http://127.0.0.1:9090", (), "it does not answer (refused)"))
    [problem] = judge(silent)
    assert (problem.what, "scripts/logs prometheus" in problem.fix) == ("prometheus", True)


def test_who_is_in_trouble_anyway_is_not_told_twice() -> None:
    assert WELL.prefect
    down = Metrics("http://127.0.0.1:9090", (Target("minio", "timed out"), Target("prefect-exporter", "503")), None)
    stopped = replace(with_container("minio", state="exited", exit_code=0), metrics=down)
    silent = replace(stopped, prefect=replace(WELL.prefect, error="it does not answer", pools=()))
    assert [each.part for each in judge(silent)] == ["containers", "prefect"]


def test_the_shape_for_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Fields are added, never renamed: docs/status.md promises it."""
    monkeypatch.setattr(stacks, "found", lambda _: Stack("prod", {}))
    monkeypatch.setattr(status, "look", lambda _: with_pool(paused=True))
    assert status.status(None, as_json=True) == 1
    shape = json.loads(capsys.readouterr().out)
    assert shape["exit_code"] == 1
    assert shape["looked_at"] == "2026-11-23T12:00:00+00:00"
    assert shape.keys() == {"exit_code", "problems", *asdict(WELL)}
    assert shape["problems"][0].keys() == {"part", "what", "meaning", "fix", "untold"}
    assert shape["prefect"]["pools"][0]["paused"] is True
    page = (ROOT / "docs" / "status.md").read_text()
    for part in (shape, shape["problems"][0], *(each[0] for each in shape.values() if isinstance(each, list))):
        for field in part:
            assert f"`{field}`" in page, "every field is described"


V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"
V2 = "low 0\nhigh 0\nmax 31\noom 3\noom_kill 3\noom_group_kill 0\n"
DF = """\
Filesystem     1024-blocks     Used Available Capacity Mounted on
overlay             100000    30000     60000      34% /
/dev/sdb1           900000   100000    800000      12% /data
"""


@pytest.mark.parametrize(("counters", "kills"), [(V1, 2), (V2, 3), ("", 0)])
def test_what_is_seen_inside_of_a_container(counters: str, kills: int) -> None:
    seen = inside(counters + DF, {"/": "containers and volumes", "/gone": "/srv/gone", "/data": "/srv/minio"})
    assert seen.kills == kills
    assert seen.disks == (
        Disk("containers and volumes", 90000 * 1024, 60000 * 1024),
        Disk("/srv/minio", 900000 * 1024, 800000 * 1024),
    )


def test_the_marks_of_a_backup() -> None:
    def marks(**times: int) -> str:
        return "".join(f"/var/lib/backup/{mark} {time}\n" for mark, time in {"cache": 1, **times}.items())

    at = {seconds: datetime.fromtimestamp(seconds, UTC) for seconds in (1000, 2000)}
    assert inside(V2 + marks() + DF, {}).backup is None
    assert inside(V2 + marks(attempt=1000) + DF, {}).backup == Backup(None, at[1000], failed=False)
    made = marks(attempt=1000, failed=1500, succeeded=2000)
    assert inside(V2 + made + DF, {}).backup == Backup(at[2000], at[2000], failed=True)
    at[3000] = datetime.fromtimestamp(3000, UTC)
    kept = inside(V2 + marks(attempt=1000, archived=3000) + DF, {}).backup
    assert kept == Backup(None, at[1000], failed=False, archived=at[3000])
    assert inside(V2 + made + DF, {"/": "containers"}).disks == (Disk("containers", 90000 * 1024, 60000 * 1024),)


def test_what_the_state_says_of_containers() -> None:
    labels = {"memory-setting": "workers.dask.memory_mb"}
    resource = {
        "urn": "urn:pulumi:prod::prefect-environment::docker:index/container:Container::prefect-worker-dask-1",
        "type": "docker:index/container:Container",
        "provider": "urn:pulumi:prod::prefect-environment::pulumi:providers:docker::docker-host-gpu::an-id",
        "inputs": {
            "start": True,
            "command": ["prefect-worker", "--pool", "dask-pool"],
            "labels": [{"label": f"prefect-environment.{key}", "value": value} for key, value in labels.items()],
            "ports": [{"external": 443, "ip": "10.0.0.1"}],
        },
    }
    [(name, wanted)] = wanted_containers({"deployment": {"resources": [resource]}}).items()
    assert name == "prefect-worker-dask-1"
    assert (wanted.provider, wanted.pool, wanted.on_demand) == ("docker-host-gpu", "dask-pool", False)
    assert wanted.memory_setting == "workers.dask.memory_mb"
    assert wanted.listens == {443: "10.0.0.1"}
