"""What runs flows, and the flows: workers, the CLI box, deployments and their schedules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from settings.model import MemoryMb, Model, Name


class WorkerSettings(Model):
    """One Prefect worker and the work pool that it serves."""

    pool: Name = Field(description="work pool that it serves; made with it")
    queues: tuple[Name, ...] = Field(("default",), min_length=1, description="queues of the pool that it takes from")
    host: Name | None = Field(None, description="the further host (below `hosts`) that it runs on; default: the first")
    type: Literal["process"] = Field("process", description="type of the pool: flow runs are processes of the worker")
    replicas: int = Field(1, ge=1, le=99, description="containers that serve the pool")
    requirements: tuple[str, ...] = Field((), description="pip requirements added to this worker's image")
    drain_seconds: int = Field(
        300, ge=10, description="how long a worker that is being replaced may finish its flow runs"
    )
    memory_mb: MemoryMb = Field(
        1024, description="memory limit of one container, in MiB; it takes a flow run for each 160 of them at a time"
    )


class CliSettings(Model):
    """The CLI box."""

    flows_directory: Path | None = Field(
        None,
        description="directory on the Docker host that the box works in; default: flows/ where that is this machine",
    )
    memory_mb: MemoryMb = 1024


class ScheduleSettings(Model):
    """When a deployment runs by itself: `cron` or `interval_seconds`."""

    cron: str | None = Field(None, description="five fields, such as `0 6 * * *`")
    interval_seconds: int | None = Field(None, ge=1, description="instead of `cron`: seconds between two runs")
    timezone: str = Field("UTC", description="IANA name, such as Europe/Warsaw")
    active: bool | None = Field(
        None,
        description="default: on when created, then as set in Prefect's UI; true also resumes a paused deployment",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.cron is None) == (self.interval_seconds is None):
            raise ValueError("a schedule has either `cron` or `interval_seconds`; it would never run. Give one of them")
        return self


class DeploymentSettings(Model):
    """One deployment of a flow."""

    entrypoint: Annotated[str, StringConstraints(pattern=r"^[^:]+\.py:[A-Za-z_]\w*$")] = Field(
        description="file and function below the project's path, such as dask_flow.py:greetings"
    )
    flow: str | None = Field(None, description="the flow's name; default: the function's, with dashes")
    parameters: Mapping[str, object] = Field({}, description="the flow's parameters by name")
    schedules: tuple[ScheduleSettings, ...] = Field((), description="when it runs by itself")
    tags: tuple[str, ...] = Field((), description="tags of its runs")
    description: str | None = Field(None, description="text shown in Prefect's UI")
    concurrency_limit: int | None = Field(None, ge=1, description="runs at the same time; default: no limit")

    @property
    def flow_name(self) -> str:
        """The flow's name in Prefect: as set, else what Prefect makes of the function's name."""
        return self.flow or self.entrypoint.rpartition(":")[2].replace("_", "-")


class FlowSettings(Model):
    """A directory of flows with its deployments; without `worker` it gets a worker and a pool of its own."""

    path: Path = Field(description="directory with the code; relative to the program's")
    worker: Name | None = Field(None, description="a worker below `workers`; default: one of its own, named after it")
    queue: Name | None = Field(None, description="queue of that worker; default: the worker's first")
    deployments: Mapping[Name, DeploymentSettings] = Field(min_length=1, description="its deployments by name")

    @property
    def requirements_file(self) -> Path:
        """The packages that the project's own worker gets, if the file exists."""
        return self.path / "requirements.txt"

    @model_validator(mode="after")
    def _entrypoints_exist(self) -> Self:
        if not self.path.is_dir():
            raise ValueError(f"path: {self.path} is no directory; there would be no code to run. Name an existing one")
        for name, deployment in self.deployments.items():
            file = self.path / deployment.entrypoint.rpartition(":")[0]
            if not file.is_file():
                raise ValueError(
                    f"deployments.{name}.entrypoint: {file} does not exist; every run would fail. Mend the file's name"
                )
        return self


def requirement_lines(file: Path) -> tuple[str, ...]:
    """The requirements that a pip requirements file lists, comments and blank lines left out."""
    if not file.is_file():
        return ()
    lines = (line.partition(" #")[0].strip() for line in file.read_text().splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))
