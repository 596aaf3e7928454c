"""The flow of scripts/deploy-flow: a directory of flows, deployed by whoever may use Prefect's API and the bucket.

Upload and deployments are those of a stack's own flow projects; nothing of a stack's state or settings is read.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import yaml
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from components.flow_storage import BLOCK, BLOCK_TYPE
from providers.base import ArgsT, Provider, ProviderError
from providers.connection import (
    ClientT,
    ConnectionT,
    CredentialsError,
    MinioConnection,
    PrefectConnection,
    ResultT,
    UnreachableError,
    waiting,
)
from providers.minio.object_tree import ObjectTreeArgs, ObjectTreeProvider, tree
from providers.minio.server import MinioClient, MinioServer
from providers.prefect.deployment import DeploymentArgs, DeploymentProvider, Schedule, flow_name
from providers.prefect.server import PrefectServer, unless_missing
from scripts.lib.ui import Failure, say, step
from settings.model import Model, Name

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

FILE: Final = "prefect.yaml"
DEPLOYED: Final = "_deployed"
"""Where in the bucket the code goes: no flow project of the settings can have such a name."""
PULL: Final = "prefect.deployments.steps.pull_from_remote_storage"
SERVER_SECONDS: Final = 30.0
"""How long a server that does not answer is asked again."""
NEEDED: Final = {
    "PREFECT_API_URL": "Prefect's API, such as https://tasks-api.example.com/api",
    "PREFECT_API_AUTH_STRING": "what it asks for",
    "AWS_ENDPOINT_URL_S3": "the S3 API, such as https://storage.example.com",
    "AWS_ACCESS_KEY_ID": "a key of the flows' bucket",
    "AWS_SECRET_ACCESS_KEY": "its secret",
}
"""Variables of the environment, and what they are."""


def _plain(value: object) -> object:
    """A value without what `prefect init` leaves empty; refuses what only Prefect's own steps would fill in."""
    if isinstance(value, Mapping):
        return {key: plain for key, item in value.items() if (plain := _plain(item)) not in (None, "", {}, [])}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str) and "{{" in value:
        raise ValueError(f"{value} is filled in by `prefect deploy` alone. Write what it stands for")
    return value


class _Schedule(Model):
    cron: str | None = None
    interval: int | None = None
    timezone: str | None = None
    active: bool | None = None

    def asked(self) -> Schedule:
        given: Any = self.model_dump(exclude_none=True)
        if "interval" in given:
            given["interval_seconds"] = given.pop("interval")
        schedule: Schedule = given
        return schedule


class _WorkPool(Model):
    name: str
    work_queue_name: str = "default"


class _Deployment(Model):
    name: str
    entrypoint: str
    work_pool: _WorkPool
    parameters: Mapping[str, object] = Field({})
    schedules: tuple[_Schedule, ...] = ()
    tags: tuple[str, ...] = ()
    description: str | None = None
    concurrency_limit: int | None = None


_DEPLOYMENTS = TypeAdapter(Annotated[tuple[_Deployment, ...], Field(min_length=1), BeforeValidator(_plain)])
_NAME = TypeAdapter(Name)


@dataclass(frozen=True)
class Project:
    """A directory of flows, as its prefect.yaml describes it."""

    name: str
    """Part of the code's place in the bucket."""
    directory: Path
    deployments: Sequence[_Deployment]


@dataclass(frozen=True)
class Servers:
    """The two that are needed, and nothing else."""

    prefect: PrefectConnection
    store: MinioConnection


def deploy(directory: Path, *, force: bool) -> int:
    """Upload a directory and register the deployments of its prefect.yaml; return the exit code.

    Raises:
        Failure: something can't be used, or a deployment is the settings' own and `force` is not given; nothing was
            changed, unless a server went away in between.
    """
    project, servers = read(directory), from_environment(os.environ)
    wanted = [_args(project, each, servers) for each in project.deployments]
    with step("look at what is there"):
        bucket, owners, idle = _with_prefect(servers, lambda client: _look(client, wanted, force=force))
    code = ObjectTreeArgs(
        servers.store, bucket=bucket, prefix=f"{DEPLOYED}/{project.name}", source=str(project.directory)
    ).filled(tree(project.directory))
    with step("upload") as shown:
        _with_store(servers, bucket, lambda client: _bring(client, ObjectTreeProvider(), code))
        shown.note = f"{len(code.files)} files to s3://{bucket}/{code.object_prefix}"
    for args, owner in zip(wanted, owners, strict=True):
        ready = replace(
            args, owner=owner, pull_steps=pull_steps(code.object_prefix), content_hash=Path(code.object_prefix).name
        )
        with step(_id(args)) as shown:
            _with_prefect(servers, partial(_bring, provider=DeploymentProvider(), args=ready))
            shown.note = f"on {args.pool}/{args.queue}"
    for queue in idle:
        say(f"! no worker has asked for work of {queue} lately: until one does, runs wait there")
    return 0


def read(directory: Path) -> Project:
    """Read a directory's prefect.yaml (https://docs.prefect.io/v3/how-to-guides/deployments/prefect-yaml).

    Its build, push and pull steps are `prefect deploy`'s; they are left out.

    Raises:
        Failure: it is not there, or says what can't be used.
    """
    file = directory / FILE
    try:
        content = yaml.safe_load(file.read_text())
        given = content if isinstance(content, Mapping) else {}
        name = _NAME.validate_python(given.get("name") or directory.resolve().name)
        deployments = _DEPLOYMENTS.validate_python(given.get("deployments") or [])
    except OSError as error:
        raise Failure(
            f"{file}: {error.strerror}. It names the deployments; `prefect init` writes one, and docs/deploy-flows.md "
            "shows the least of it."
        ) from None
    except yaml.YAMLError as error:
        raise Failure(f"{file} is no YAML: {error}") from None
    except ValidationError as error:
        raise Failure("\n".join([f"{file} can't be used:", *_problems(error)])) from None
    return Project(name, directory, deployments)


def _problems(error: ValidationError) -> Iterator[str]:
    root = "name" if error.title.startswith("constrained") else "deployments"
    for item in error.errors(include_url=False, include_input=False):
        where = ".".join(map(str, [root, *item["loc"]]))
        unknown = item["type"] == "extra_forbidden"
        yield f"  - {where}: " + ("this is not one of those that are taken" if unknown else item["msg"])


def from_environment(given: Mapping[str, str]) -> Servers:
    """Return the servers that the environment names.

    Raises:
        Failure: variables are missing.
    """
    missing = [f"  {name:24} {what}" for name, what in NEEDED.items() if not given.get(name)]
    if missing:
        raise Failure(
            "\n".join(["These variables are not set:", *missing])
            + "\nAt a desk with access to the stack: scripts/connect --stack NAME -- scripts/deploy-flow PATH"
        )
    api, store = given["PREFECT_API_URL"].rstrip("/"), given["AWS_ENDPOINT_URL_S3"].rstrip("/")
    minio = MinioConnection(
        server=_host(store),
        url=store,
        access_key=given["AWS_ACCESS_KEY_ID"],
        secret_key=given["AWS_SECRET_ACCESS_KEY"],
        # Else it is asked for, which takes a right more.
        region=given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or "us-east-1",
    )
    if given.get("AWS_CA_BUNDLE"):
        minio["ca_bundle"] = given["AWS_CA_BUNDLE"]
    return Servers(PrefectConnection(server=_host(api), url=api, auth=given["PREFECT_API_AUTH_STRING"]), minio)


def _host(url: str) -> str:
    return urlsplit(url).netloc or url


def pull_steps(object_prefix: str) -> list[dict[str, object]]:
    """Return the steps by which a run gets its code, with the key that the stack's block holds when it starts."""
    block = f"prefect.blocks.{BLOCK_TYPE}.{BLOCK}"
    place = {"url": f"{{{{ {block}.basepath }}}}/{object_prefix}"}
    key = {name: f"{{{{ {block}.settings.{name} }}}}" for name in ("key", "secret", "client_kwargs")}
    return [{PULL: {"id": "pull_code", **place, **key}}]


def _args(project: Project, given: _Deployment, servers: Servers) -> DeploymentArgs:
    source = str(project.directory)
    try:
        flow = flow_name(source, given.entrypoint)
    except ProviderError as error:
        raise Failure(str(error)) from None
    args = DeploymentArgs(
        servers.prefect,
        flow=flow,
        deployment=given.name,
        entrypoint=given.entrypoint,
        pull_steps=[],
        pool=given.work_pool.name,
        queue=given.work_pool.work_queue_name,
        source=source,
        content_hash="",
        parameters=given.parameters,
        schedules=[each.asked() for each in given.schedules],
        tags=given.tags,
        description=given.description,
        concurrency_limit=given.concurrency_limit,
    )
    values = {name: getattr(args, name) for name in DeploymentProvider.rules}
    if failures := DeploymentProvider().check({}, values).failures:
        lines = [f"  - {each.property}: {each.reason}" for each in failures]
        raise Failure("\n".join([f"{FILE}: deployment {given.name} can't be used:", *lines]))
    return args


def _id(args: DeploymentArgs) -> str:
    return f"{args.flow}/{args.deployment}"


def _look(
    client: "SyncPrefectClient", wanted: Sequence[DeploymentArgs], *, force: bool
) -> tuple[str, list[str], list[str]]:
    """The bucket, the mark of each deployment that is there ("" for none), and the queues that nobody serves."""
    block = unless_missing(lambda: client.read_block_document_by_name(BLOCK, BLOCK_TYPE, include_secrets=False))
    if block is None:
        raise Failure(
            f"The server has no block {BLOCK_TYPE}/{BLOCK}, which says where code is kept: it is no stack of this "
            "project, or one without a store. Look at PREFECT_API_URL."
        )
    owners, problems, idle = [], [], []
    for args in wanted:
        found = DeploymentProvider().find(client, args)
        owners.append((found.owner if found else None) or "")
        if owners[-1] and not force:
            problems.append(
                f"{_id(args)} is managed by the settings of {owners[-1]}, which would not agree. Change it there, give "
                f"it another name in {FILE}, or say --force: then it holds until the next `up --refresh`."
            )
        queue = unless_missing(partial(client.read_work_queue_by_name, args.queue, args.pool))
        if queue is None:
            pools = ", ".join(sorted(pool.name for pool in client.read_work_pools())) or "none"
            problems.append(
                f"{_id(args)}: there is no queue {args.queue} in a pool {args.pool}, so its runs would wait for ever. "
                f"Name those that a worker serves; the pools are: {pools}"
            )
        elif queue.status is None or queue.status.value != "READY":
            idle.append(f"{args.pool}/{args.queue}")
    if problems:
        raise Failure("\n".join(problems))
    bucket = str(block.data["basepath"]).removeprefix("s3://").partition("/")[0]
    return bucket, owners, list(dict.fromkeys(idle))


def _bring(client: ClientT, provider: Provider[ArgsT, ConnectionT, ClientT], args: ArgsT) -> None:
    """Make what is not there, and change what is."""
    found = provider.find(client, args)
    if found is None:
        provider.make(client, args)
    else:
        provider.change(client, args, found)


def _with_prefect(servers: Servers, call: "Callable[[SyncPrefectClient], ResultT]") -> ResultT:
    with _explained("Prefect", servers.prefect["url"], "PREFECT_API_URL and PREFECT_API_AUTH_STRING"):
        return waiting(PrefectServer(), [servers.prefect], call, seconds=SERVER_SECONDS)


def _with_store(servers: Servers, bucket: str, call: Callable[[MinioClient], ResultT]) -> ResultT:
    place = f"{servers.store['url']}, bucket {bucket}"
    with _explained("The store", place, "AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        return waiting(MinioServer(), [servers.store], call, seconds=SERVER_SECONDS)


@contextmanager
def _explained(title: str, place: str, variables: str) -> Iterator[None]:
    """Say of what fails where it did; no library's traceback comes along, as it may hold the request."""
    try:
        yield
    except Failure:
        raise
    except UnreachableError as error:
        raise Failure(f"{title} does not answer at {place}: {error}. Look at {variables}.") from None
    except CredentialsError as error:
        raise Failure(f"{title} at {place} refuses the credentials: {error}. Look at {variables}.") from None
    except Exception as error:  # noqa: BLE001 - whatever a library raises about what it was asked
        raise Failure(f"{title} at {place}: {type(error).__name__}: {error}") from None
