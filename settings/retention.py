"""Retention: what is deleted when it is old."""

from __future__ import annotations

from pydantic import Field

from settings.model import Model


class RetentionSettings(Model):
    """What is deleted by itself when it is old; of flow runs and events, `server` says it."""

    results_days: int | None = Field(
        None, ge=1, description="persisted results older than this are deleted; default: they stay"
    )
