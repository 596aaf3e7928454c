"""Metrics: what is watched, for how long it is kept, and whether there are pictures of it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, model_validator

from settings.model import PORT_MAX, MemoryMb, Model


class MetricsMode(StrEnum):
    """Whether the stack is watched."""

    NONE = "none"
    MANAGED = "managed"


class MetricsSettings(Model):
    """A Prometheus that asks the stack's servers how they are, and a Grafana that draws what it was told."""

    mode: MetricsMode = Field(
        MetricsMode.NONE, description="`managed`: a Prometheus of the stack's own; see [metrics](metrics.md)"
    )
    port: int = Field(9090, ge=1, le=PORT_MAX, description="published on 127.0.0.1 of the Docker host")
    retention_days: int = Field(30, ge=1, description="what is older is deleted")
    memory_mb: MemoryMb = 512
    exporter_memory_mb: MemoryMb = Field(
        128, ge=64, description="memory limit of each of the two that ask Prefect and Postgres, in MiB"
    )
    grafana: bool = Field(
        False,
        description="a Grafana with a dashboard of the stack; with images.source `build`, images.grafana must name one",
    )
    grafana_port: int = Field(3000, ge=1, le=PORT_MAX, description="published on 127.0.0.1 of the Docker host")
    grafana_memory_mb: MemoryMb = Field(512, ge=64, description="memory limit of Grafana's container, in MiB")

    @property
    def on(self) -> bool:
        """Whether there are metrics at all."""
        return self.mode is MetricsMode.MANAGED

    @model_validator(mode="after")
    def _fits(self) -> MetricsSettings:
        if self.grafana and not self.on:
            raise ValueError("grafana: with mode none there would be nothing to draw. Set mode: managed, or remove it")
        return self
