"""A whole stack: all its settings, and what they must have to do with each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

from settings.alerts import AlertSettings
from settings.auth import AccessSettings, AuthMode, AuthSettings
from settings.backup import BackupSettings
from settings.flows import CliSettings, FlowSettings, WorkerSettings, requirement_lines
from settings.hosts import FurtherHostSettings, HostSettings
from settings.images import ImageSettings, ImageSource
from settings.metrics import MetricsSettings
from settings.model import PORT_MAX, Model, Name
from settings.proxy import ProxyMode, ProxySettings
from settings.retention import RetentionSettings
from settings.rotation import RotationSettings
from settings.servers import DaskSettings, MinioSettings, Mode, NetworksSettings, PostgresSettings, ServerSettings
from settings.versions import (
    PROGRAM_LOCK,
    SERVER_LOCK,
    WORKER_LOCK,
    base_problems,
    lock_problems,
    locked,
    requirement_problems,
)


class Profiles(Model):
    """Which parts run, as the compose profiles of old: each can be switched off."""

    orion: bool = Field(True, description="Postgres and the Prefect server")
    agent: bool = Field(True, description="the Prefect workers")
    cli: bool = Field(True, description="the CLI box (modelled, started on demand)")
    minio: bool = Field(True, description="MinIO, its bucket, user and policy")
    dask: bool = Field(True, description="a Dask scheduler and its workers")


class Settings(Model):
    """All settings of one stack."""

    profiles: Profiles = Profiles()
    host: HostSettings = HostSettings()
    hosts: Mapping[Name, FurtherHostSettings] = Field({}, description="further hosts by name")
    images: ImageSettings = ImageSettings()
    networks: NetworksSettings = NetworksSettings()
    port_offset: int = Field(0, ge=0, le=50000, description="added to every published port: stacks share a host")
    postgres: PostgresSettings = PostgresSettings()
    server: ServerSettings = ServerSettings()
    workers: Mapping[Name, WorkerSettings] = Field(
        {"dask": WorkerSettings(pool="dask-pool", queues=("dask-queue",))}, description="Prefect workers by name"
    )
    minio: MinioSettings = MinioSettings()
    dask: DaskSettings = DaskSettings()
    cli: CliSettings = CliSettings()
    flows: Mapping[Name, FlowSettings] = Field({}, description="flow projects by name")
    secrets: Mapping[Name, SecretStr] = Field({}, description="Prefect's `secret` blocks by name, for flows to load")
    retention: RetentionSettings = RetentionSettings()
    proxy: ProxySettings = ProxySettings()
    auth: AuthSettings = AuthSettings()
    backup: BackupSettings = BackupSettings()
    alerts: AlertSettings = AlertSettings()
    metrics: MetricsSettings = MetricsSettings()
    rotation: RotationSettings = RotationSettings()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        problems = [
            *self._host_problems(),
            *self._further_host_problems(),
            *self._profile_problems(),
            *self._port_problems(),
            *self._flow_problems(),
            *self._worker_problems(),
            *self._retention_problems(),
            *self._proxy_problems(),
            *self._auth_problems(),
            *self._backup_problems(),
            *self._metrics_problems(),
            *self._version_problems(),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _host_problems(self) -> list[str]:
        directory = self.cli.flows_directory
        if directory and self.host.remote and not directory.is_absolute():
            problem = (
                f"cli.flows_directory: {directory} is relative to a directory of this machine, which the host "
                f"{self.host.address} can't see. Give the whole path on that host, or leave it out"
            )
            return [problem]
        return []

    @property
    def flows_directory(self) -> str | None:
        """The directory on the Docker host that the CLI box works in, if any."""
        directory = self.cli.flows_directory or (None if self.host.remote else Path("flows"))
        return directory.resolve().as_posix() if directory else None

    def _profile_problems(self) -> list[str]:
        on = self.profiles
        problems = [
            f"profiles.{part}: {what} would have no API to talk to. Set profiles.orion: true or profiles.{part}: false"
            for part, what, switched_on in (("agent", "the workers", on.agent), ("cli", "the CLI box", on.cli))
            if switched_on and not on.orion
        ]
        if self.alerts.on and not on.orion:
            problems.append(
                "alerts: runs and workers are Prefect's to tell of, and it would not run. Set profiles.orion: true, or "
                "remove alerts"
            )
        if on.dask and self.dask.address:
            problems.append(
                "dask.address: it names an external cluster while profiles.dask starts another one that nothing "
                "would use. Set profiles.dask: false or remove the address"
            )
        if on.dask and self.dask.image_of not in self.workers:
            problems.append(
                f"dask.image_of: there is no workers.{self.dask.image_of}, so Dask would have no image. "
                f"Name one of: {', '.join(self.workers)}"
            )
        if on.dask and not any(self.dask_workers.values()):
            problems.append(
                "dask.workers: with none here and none on further hosts, tasks would wait for ever. "
                "Set it to 1 or more, or profiles.dask: false"
            )
        return problems

    def _further_host_problems(self) -> list[str]:
        problems = [
            f"workers.{name}.host: there is no hosts.{worker.host}, so it would run nowhere. "
            f"Name one of: {', '.join(self.hosts) or 'none, as hosts is empty'}; or leave it out for the first host"
            for name, worker in self.workers.items()
            if worker.host and worker.host not in self.hosts
        ]
        if self.hosts and not self.host.private_address:
            problems.append(
                f"host.private_address: what runs on {', '.join(self.hosts)} would not find Prefect, MinIO and Dask. "
                "Give the first host's address on the private network that the hosts share"
            )
        placed = {worker.host for worker in self.workers.values()}
        taken = {self.host.private_address: "host"}
        for name, host in self.hosts.items():
            if host.dask_workers and not self.profiles.dask:
                problems.append(
                    f"hosts.{name}.dask_workers: there is no scheduler for them. "
                    f"Set profiles.dask: true or remove hosts.{name}.dask_workers"
                )
            if host.dask_workers and not host.private_address:
                problems.append(
                    f"hosts.{name}.private_address: the scheduler and other workers would not reach the Dask workers "
                    "there. Give the host's address on the private network that the hosts share"
                )
            if not host.dask_workers and name not in placed:
                problems.append(
                    f"hosts.{name}: nothing would run there. Give it dask_workers, name it in a workers.<name>.host, "
                    "or remove it"
                )
            other = taken.setdefault(host.private_address, f"hosts.{name}") if host.private_address else None
            if other not in {None, f"hosts.{name}"}:
                problems.append(
                    f"hosts.{name}.private_address: {host.private_address} is {other}'s already, and what is sent to "
                    "one host would reach the other. Give each its own; one machine is one host"
                )
        return problems

    def _proxy_problems(self) -> list[str]:
        proxy, problems = self.proxy, []
        if not proxy.serves:
            return []
        if not (self.profiles.orion or self.serves_storage):
            problems.append(
                "proxy.mode: neither Prefect nor a MinIO of the stack's own runs, so it would serve nothing. "
                "Set profiles.orion: true, or proxy.mode: none"
            )
        if proxy.mode is ProxyMode.EXTERNAL and not self.networks.caddy.external:
            problems.append(
                "networks.caddy.external: your Caddy would not reach what it is to serve. Name the Docker network "
                "that it is on"
            )
        return problems

    def _auth_problems(self) -> list[str]:
        auth, proxy, problems = self.auth, self.proxy, []
        open_to_others = proxy.mode is ProxyMode.EXTERNAL or (proxy.mode is ProxyMode.MANAGED and not proxy.on_loopback)
        if auth.mode is AuthMode.NONE and open_to_others:
            problems.append(
                "auth.mode: whoever reaches the proxy could run code on the workers. Set it to managed or external, "
                "or proxy.address to a loopback address such as 127.0.0.1"
            )
        if auth.mode is not AuthMode.NONE and not proxy.serves:
            problems.append("auth.mode: without a proxy nobody is asked to log in. Set proxy.mode, or auth.mode: none")
        if auth.mode is not AuthMode.MANAGED and (auth.users or auth.smtp):
            problems.append(
                f"auth.users, auth.smtp: with auth.mode {auth.mode} they would not be used. Remove them, or set "
                "auth.mode: managed"
            )
        if auth.mode is AuthMode.MANAGED and auth.portal in {
            proxy.tasks, proxy.api, proxy.storage, proxy.storage_console
        }:  # fmt: skip
            problems.append(f"auth.portal: {auth.portal!r} is another host's name; one would not answer. Rename either")
        if auth.in_postgres and not self.has_postgres:
            problems.append(
                "auth.storage: the stack has no Postgres of its own for it. Set it to sqlite, or profiles.orion: true "
                "and postgres.mode: managed"
            )
        return problems

    def _backup_problems(self) -> list[str]:
        if self.backup.on and not (self.profiles.orion or self.profiles.minio):
            problem = (
                "backup.mode: neither Prefect nor an S3 store is part of the stack, so there is nothing to save. "
                "Set profiles.orion or profiles.minio to true, or backup.mode: none"
            )
            return [problem]
        if self.backup.point_in_time and not self.has_postgres:
            problem = (
                "backup.point_in_time: the stack has no Postgres of its own, and another's write-ahead log is not for "
                "it to keep. Remove it; who runs that server may offer the same"
            )
            return [problem]
        return []

    def _metrics_problems(self) -> list[str]:
        metrics, on, proxy, problems = self.metrics, self.profiles, self.proxy, []
        if metrics.on and not (on.orion or self.serves_storage or on.dask):
            problems.append(
                "metrics.mode: neither Prefect, MinIO nor Dask is part of the stack, so there is nothing to watch. "
                "Set one of profiles to true, or metrics.mode: none"
            )
        if metrics.grafana and not self.images.has_grafana:
            problems.append(
                "metrics.grafana: there is none among Debian's packages, so it can't be built here. Name an image that "
                "the host can pull, or has, in images.grafana; or remove it, and look at Prometheus' own pages"
            )
        if proxy.serves:
            others = [proxy.tasks, proxy.api, proxy.storage, proxy.storage_console, self.auth.portal]
            for setting in ["metrics"] * metrics.on + ["dashboards"] * metrics.grafana:
                label = getattr(proxy, setting)
                if label in others:
                    problems.append(
                        f"proxy.{setting}: {label!r} is another host's name; one would not answer. Rename either"
                    )
                others.append(label)
        return problems

    def _version_problems(self) -> list[str]:
        locks = {lock: locked(lock) for lock in (SERVER_LOCK, WORKER_LOCK, PROGRAM_LOCK)}
        prefect = {lock: pins["prefect"] for lock, pins in locks.items()}
        added = {f"workers.{name}.requirements": worker.requirements for name, worker in self.workers.items()}
        added |= {
            f"flows.{name}: {project.requirements_file}": requirement_lines(project.requirements_file)
            for name, project in self.flows.items()
            if project.worker is None
        }
        problems = [*lock_problems(prefect)]
        if self.images.source is ImageSource.REGISTRY:
            problems += base_problems(self.images.prefect, prefect[SERVER_LOCK])
        for path, lines in added.items():
            problems += requirement_problems(path, lines, locks[WORKER_LOCK])
        return problems

    def _retention_problems(self) -> list[str]:
        if self.retention.results_days and not self.serves_storage:
            problem = (
                "retention.results_days: the stack has no store of its own, and sets no rules in another, so results "
                "would stay. Remove it, and have that store delete what is old below _results/"
            )
            return [problem]
        return []

    @property
    def serves_storage(self) -> bool:
        """Whether there is a MinIO of the stack's own that a proxy can serve."""
        return self.profiles.minio and self.minio.mode is Mode.MANAGED

    @property
    def has_postgres(self) -> bool:
        """Whether there is a Postgres of the stack's own."""
        return self.profiles.orion and self.postgres.mode is Mode.MANAGED

    @property
    def guarded(self) -> dict[str, AccessSettings]:
        """Host of the proxy that asks for a log-in, by its label below the domain, to who may see it."""
        proxy, access, metrics = self.proxy, self.auth.access, self.metrics
        return {
            proxy.tasks: access.tasks,
            proxy.storage_console: access.storage_console,
            **({proxy.metrics: access.metrics} if metrics.on else {}),
            **({proxy.dashboards: access.metrics} if metrics.grafana else {}),
        }

    def _port_problems(self) -> list[str]:
        problems = []
        ports = {path: _shifted(ports, self.port_offset) for path, ports in self.ports().items()}
        for name, own in ports.items():
            if own and own[-1] > PORT_MAX:
                problems.append(f"{name}: {own[-1]} (with port_offset) is above {PORT_MAX}. Lower it or port_offset")
            twins = [(other, port) for other in ports if other > name for port in own if port in ports[other]]
            if twins:
                other, port = twins[0]
                problems.append(f"{name}: port {port} is also {other}; one could not start. Give them different ones")
        return problems

    def _flow_problems(self) -> list[str]:
        problems = []
        if self.flows and not (self.profiles.orion and self.profiles.minio):
            problems.append(
                "flows: deployments live in the Prefect server and their code in MinIO. "
                "Set profiles.orion and profiles.minio to true, or remove the flows"
            )
        if self.secrets and not self.profiles.orion:
            problems.append(
                "secrets: they are blocks in the Prefect server, and there is none. Set profiles.orion: true, or "
                "remove them"
            )
        for name, project in self.flows.items():
            if project.worker is None:
                if name in self.workers:
                    problems.append(
                        f"flows.{name}: its own worker would be named like workers.{name}. "
                        f"Set flows.{name}.worker: {name} to use that one, or rename either"
                    )
                continue
            worker = self.workers.get(project.worker)
            if worker is None:
                problems.append(
                    f"flows.{name}.worker: there is no workers.{project.worker}, so its runs would stay late for "
                    f"ever. Name one of: {', '.join(self.workers)}; or leave it out to get one of its own"
                )
                continue
            if project.queue and project.queue not in worker.queues:
                problems.append(
                    f"flows.{name}.queue: workers.{project.worker} does not serve {project.queue}, so its runs would "
                    f"stay late for ever. Name one of: {', '.join(worker.queues)}"
                )
            if project.requirements_file.is_file():
                problems.append(
                    f"flows.{name}.worker: {project.requirements_file} would not be installed, since "
                    f"workers.{project.worker} is shared. Move its lines to workers.{project.worker}.requirements, "
                    f"or leave flows.{name}.worker out to get a worker with these packages"
                )
        return problems

    def _worker_problems(self) -> list[str]:
        pools: dict[str, str] = {}
        problems = []
        for name, worker in self.all_workers().items():
            if worker.pool in pools:
                problems.append(
                    f"workers.{name}.pool: {worker.pool} is already the pool of {pools[worker.pool]}; two workers with "
                    "different packages would take each other's runs. Give it a pool of its own, or use replicas"
                )
            pools.setdefault(worker.pool, name)
        return problems

    def all_workers(self) -> dict[str, WorkerSettings]:
        """The workers by name: those below `workers`, and one for each flow project that names none."""
        own = {
            name: WorkerSettings(pool=name, requirements=requirement_lines(project.requirements_file))
            for name, project in self.flows.items()
            if project.worker is None
        }
        return {**self.workers, **own}

    @property
    def dask_requirements(self) -> tuple[str, ...]:
        """Packages of the worker whose image Dask runs."""
        return self.all_workers()[self.dask.image_of].requirements

    @property
    def ui_url(self) -> str:
        """Prefect's UI, for people; without a slash at the end."""
        if self.server.ui_api_url:
            return self.server.ui_api_url.removesuffix("/api")
        return self.proxy.url(self.proxy.tasks) if self.proxy.serves else self.server.url

    @property
    def shared_address(self) -> str | None:
        """Where all hosts reach the first one; None for a stack of one host, which opens no port to others."""
        return self.host.private_address if self.hosts else None

    @property
    def dask_workers(self) -> dict[str | None, int]:
        """Host to its number of Dask workers; None is the first host."""
        return {None: self.dask.workers, **{name: host.dask_workers for name, host in self.hosts.items()}}

    def ports(self) -> dict[str, range]:
        """Setting path to ports on a Docker host, of the parts that are switched on."""
        on, managed_minio = self.profiles, self.serves_storage
        shared_dask = on.dask and bool(self.hosts)
        managed_proxy = self.proxy.mode is ProxyMode.MANAGED
        ports = {
            "server.port": (on.orion, self.server.port, 1),
            "minio.api_port": (managed_minio, self.minio.api_port, 1),
            "minio.console_port": (managed_minio, self.minio.console_port, 1),
            "dask.dashboard_port": (on.dask, self.dask.dashboard_port, 1),
            "dask.scheduler_port": (shared_dask, self.dask.scheduler_port, 1),
            "dask.worker_port": (shared_dask, self.dask.worker_port, max(self.dask_workers.values())),
            "metrics.port": (self.metrics.on, self.metrics.port, 1),
            "metrics.grafana_port": (self.metrics.grafana, self.metrics.grafana_port, 1),
            "proxy.http_port": (managed_proxy, self.proxy.http_port, 1),
            "proxy.https_port": (managed_proxy, self.proxy.https_port, 1),
        }
        return {path: range(first, first + count) for path, (used, first, count) in ports.items() if used}

    def resolved(self) -> Settings:
        """The same settings with `port_offset` added to every port, and MinIO told of its console behind the proxy."""
        offset = self.port_offset
        server, minio, dask, proxy, metrics = self.server, self.minio, self.dask, self.proxy, self.metrics
        if proxy.mode is ProxyMode.MANAGED:
            proxy = proxy.model_copy(
                update={"http_port": proxy.http_port + offset, "https_port": proxy.https_port + offset}
            )
        console = proxy.url(proxy.storage_console) if proxy.serves else None
        return self.model_copy(
            update={
                "port_offset": 0,
                "proxy": proxy,
                "metrics": metrics.model_copy(
                    update={"port": metrics.port + offset, "grafana_port": metrics.grafana_port + offset}
                ),
                "server": server.model_copy(update={"port": server.port + offset}),
                "minio": minio.model_copy(
                    update={
                        "api_port": minio.api_port + offset,
                        "console_port": minio.console_port + offset,
                        "browser_redirect_url": minio.browser_redirect_url or console,
                    }
                ),
                "dask": dask.model_copy(
                    update={
                        "dashboard_port": dask.dashboard_port + offset,
                        "scheduler_port": dask.scheduler_port + offset,
                        "worker_port": dask.worker_port + offset,
                    }
                ),
            }
        )


def _shifted(ports: range, offset: int) -> range:
    return range(ports.start + offset, ports.stop + offset)
