"""A deployment: a flow, where its code is, and how it runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar, Final, NotRequired, TypedDict
from zoneinfo import available_timezones

import pulumi

from providers.base import Args, Found, Props, ProviderError, Resource, Value, matching
from providers.connection import PrefectConnection
from providers.prefect.server import PrefectProvider, marked, name_rule, unless_missing, unmarked

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse

UTC: Final = "UTC"
CRON: Final = re.compile(r"@[a-z]+|[\w*/,#-]+( +[\w*/,#-]+){4}")
READ_SECONDS: Final = 60
READ_SCHEMA: Final = (
    "import json, sys; from prefect.utilities.callables import parameter_schema_from_entrypoint as schema; "
    "print(json.dumps(schema(sys.argv[1]).model_dump_for_openapi()))"
)
READ_NAME: Final = (
    "import json, sys; from prefect.flows import load_flow_arguments_from_entrypoint as arguments; "
    "print(json.dumps(arguments(sys.argv[1], {'name'})['name']))"
)


class Schedule(TypedDict):
    """When a deployment runs by itself: `cron` or `interval_seconds`."""

    cron: NotRequired[str]
    """Five fields, e.g. `0 6 * * *`."""
    interval_seconds: NotRequired[int]
    timezone: NotRequired[str]
    """IANA name; default `UTC`."""
    active: NotRequired[bool]
    """Default: on when created, then as set in Prefect's UI. True of one resumes a paused deployment, too."""


@dataclass(frozen=True)
class DeploymentArgs(Args[PrefectConnection]):
    """What a deployment is (https://docs.prefect.io/v3/concepts/deployments)."""

    flow: str
    """The flow's name in Prefect, e.g. `greetings`."""
    deployment: str
    """Its name; another name or flow is another deployment. All else is changed in place: the id stays."""
    entrypoint: str
    """`<file>:<function>` below the directory that the pull steps leave the run in."""
    pull_steps: Sequence[Mapping[str, object]]
    """How a run gets its code, as in a prefect.yaml."""
    pool: str
    queue: str
    source: str
    """Directory of the code here, which the parameters' schema is read from at every create and update."""
    content_hash: str
    """Hash of that code, shown as the deployment's version; another one brings the schema up to date."""
    parameters: Mapping[str, object] = field(default_factory=dict)
    schedules: Sequence[Schedule] = ()
    """All of them: others are removed. Another cron, interval or zone is another one; the order is free."""
    tags: Sequence[str] = ()
    description: str | None = None
    """Shown in the UI, above the stack's mark."""
    concurrency_limit: int | None = None
    """Most runs at once; default: no limit."""


def schedules_rule(value: Value) -> str | None:
    """Look at all schedules; Prefect's server judges the finer points of a cron expression."""
    problems = [problem for schedule in value for problem in _problems(schedule)]
    if len({_key(schedule) for schedule in value}) < len(value):
        problems.append("two are the same; remove one")
    return "; ".join(problems) or None


def _problems(schedule: Mapping[str, Value]) -> Iterator[str]:
    known = Schedule.__annotations__
    cron, interval, timezone = (schedule.get(key) for key in ("cron", "interval_seconds", "timezone"))
    for name in schedule.keys() - known.keys():
        yield f"{name!r} is unknown; a schedule has {', '.join(known)}"
    if (cron is None) == (interval is None):
        yield "each must have either `cron` or `interval_seconds`"
    if cron is not None and not CRON.fullmatch(cron):
        yield f"{cron!r} is no cron expression of five fields, such as `0 6 * * *`"
    if interval is not None and interval < 1:
        yield "`interval_seconds` must be 1 or more"
    if timezone not in {None, UTC} | available_timezones():
        yield f"{timezone!r} is no time zone; use an IANA name, such as `Europe/Warsaw`"


class DeploymentProvider(PrefectProvider[DeploymentArgs]):
    """Deployments are marked in their description. Pausing one is the business of whoever uses Prefect."""

    args_type = DeploymentArgs
    kind = "deployment"
    identity = ("flow", "deployment")
    state_only = PrefectProvider.state_only | {"source"}
    rules: ClassVar = {
        "flow": name_rule,
        "deployment": name_rule,
        "pool": name_rule,
        "queue": name_rule,
        "entrypoint": matching(r"[^:]+\.py:[A-Za-z_]\w*", "must be <file>.py:<function>, e.g. dask_flow.py:greetings"),
        "schedules": schedules_rule,
    }

    def find(self, client: SyncPrefectClient, args: DeploymentArgs) -> Found | None:
        deployment = unless_missing(lambda: client.read_deployment_by_name(self.id(args)))
        if deployment is None:
            return None
        description, owner = unmarked(deployment.description)
        limit = deployment.global_concurrency_limit
        return Found(
            {
                "entrypoint": deployment.entrypoint,
                "pull_steps": deployment.pull_steps,
                "pool": deployment.work_pool_name,
                "queue": deployment.work_queue_name,
                "content_hash": deployment.version,
                "parameters": deployment.parameters,
                "schedules": _as_asked(deployment, args.schedules),
                "tags": deployment.tags,
                "description": description,
                "concurrency_limit": limit.limit if limit else None,
                "deployment_id": str(deployment.id),
            },
            owner,
        )

    def make(self, client: SyncPrefectClient, args: DeploymentArgs) -> Props:
        id_ = client.create_deployment(
            client.create_flow_from_name(args.flow),
            args.deployment,
            schedules=[_new(schedule) for schedule in args.schedules],
            **_settings(args),
        )
        return {"deployment_id": str(id_)}

    def change(self, client: SyncPrefectClient, args: DeploymentArgs, _found: Found) -> Props:
        from prefect.client.schemas.actions import DeploymentUpdate

        deployment = client.read_deployment_by_name(self.id(args))
        update = DeploymentUpdate(**_settings(args))
        if any(schedule.get("active") for schedule in args.schedules):
            # Schedules of a paused deployment rest, whatever they say.
            update.paused = False
        client.update_deployment(deployment.id, update)
        _bring_schedules(client, deployment, args.schedules)
        return {"deployment_id": str(deployment.id)}

    def remove(self, client: SyncPrefectClient, args: DeploymentArgs, _found: Found) -> None:
        """The flow stays, and the runs of it."""
        client.delete_deployment(client.read_deployment_by_name(self.id(args)).id)


def _settings(args: DeploymentArgs) -> Props:
    return {
        "version": args.content_hash,
        "entrypoint": args.entrypoint,
        "pull_steps": [dict(step) for step in args.pull_steps],
        "work_pool_name": args.pool,
        "work_queue_name": args.queue,
        "parameters": dict(args.parameters),
        "parameter_openapi_schema": parameter_schema(args.source, args.entrypoint),
        "enforce_parameter_schema": True,
        "tags": list(args.tags),
        "description": marked(args.description, args.owner),
        "concurrency_limit": args.concurrency_limit,
    }


def parameter_schema(source: str, entrypoint: str) -> Props:
    """Return the JSON schema of a flow's parameters, as Prefect reads it from the file.

    Raises: ProviderError, with the reason.
    """
    schema: Props = _read(source, entrypoint, "the parameters", READ_SCHEMA)
    return schema


def flow_name(source: str, entrypoint: str) -> str:
    """Return a flow's name as its decorator gives it, else the function's with dashes.

    Raises: ProviderError, with the reason.
    """
    return str(_read(source, entrypoint, "the name", READ_NAME))


def _read(source: str, entrypoint: str, what: str, script: str) -> Value:
    """Ask Prefect about an entrypoint.

    It tries the file's imports and assignments to understand what it reads. That is kept out of this process,
    where a flow's module `settings` would be ours, and away from the API of the user's profile.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    nowhere = {"PREFECT_PROFILES_PATH": os.devnull, "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false"}
    done = subprocess.run(
        [sys.executable, "-c", script, entrypoint],
        cwd=source,
        env=environment | nowhere,
        capture_output=True,
        text=True,
        timeout=READ_SECONDS,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ProviderError(
            f"{what} of {entrypoint} can't be read from {source}: {reason}. Mend the file or the entrypoint."
        )
    # What the file itself prints comes first.
    return json.loads(done.stdout.splitlines()[-1])


# Schedules.


def _key(schedule: Mapping[str, Value]) -> tuple[Value, ...]:
    """What makes a schedule this one and no other."""
    return schedule.get("cron"), schedule.get("interval_seconds"), schedule.get("timezone", UTC)


def _as_asked(deployment: DeploymentResponse, asked: Sequence[Schedule]) -> list[Props]:
    """Return a deployment's schedules in the form and order of those asked for, then the surplus."""
    rest = [_plain(schedule) for schedule in deployment.schedules]
    shown: list[Props] = []
    for wanted in asked:
        found = next((each for each in rest if _key(each) == _key(wanted)), None)
        if found is not None:
            rest.remove(found)
            active = found["active"] and not deployment.paused
            shown.append({**wanted, "active": active} if "active" in wanted else {**wanted})
    return shown + rest


def _plain(schedule: DeploymentSchedule) -> Props:
    kind = schedule.schedule.model_dump()
    when: Props = {"timezone": kind.get("timezone") or UTC, "active": schedule.active}
    if "interval" in kind:
        return when | {"interval_seconds": int(kind["interval"].total_seconds())}
    return when | {name: kind[name] for name in ("cron", "rrule") if name in kind}


def _new(schedule: Schedule) -> DeploymentScheduleCreate:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

    timezone = schedule.get("timezone", UTC)
    # Prefect asks for a name of its own as soon as one schedule has one.
    slug = hashlib.sha256(json.dumps(_key(schedule)).encode()).hexdigest()[:12]
    return DeploymentScheduleCreate(
        slug=slug,
        active=schedule.get("active", True),
        schedule=CronSchedule(cron=schedule["cron"], timezone=timezone)
        if "cron" in schedule
        else IntervalSchedule(interval=timedelta(seconds=schedule["interval_seconds"]), timezone=timezone),
    )


def _bring_schedules(client: SyncPrefectClient, deployment: DeploymentResponse, asked: Sequence[Schedule]) -> None:
    """One by one: replacing the list would start again what somebody paused in the UI."""
    wanted = {_key(schedule): schedule for schedule in asked}
    for real in deployment.schedules:
        schedule = wanted.pop(_key(_plain(real)), None)
        if schedule is None:
            client.delete_deployment_schedule(deployment.id, real.id)
        elif schedule.get("active", real.active) != real.active:
            client.update_deployment_schedule(deployment.id, real.id, active=schedule["active"])
    if wanted:
        client.create_deployment_schedules(deployment.id, [_new(schedule) for schedule in wanted.values()])


class Deployment(Resource, module="prefect", name="Deployment"):
    """A deployment; create is refused where a foreign one exists, unless `adopt`."""

    deployment_id: pulumi.Output[str]
    """Prefect's id, a UUID; unknown in the preview of a change, and the same after it."""

    def __init__(self, name: str, args: DeploymentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(DeploymentProvider(), name, args, opts, computed=("deployment_id",))
