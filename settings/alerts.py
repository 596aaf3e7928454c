"""Alerts: who is told when something is wrong, and from when on it is."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import Field, SecretStr, StringConstraints, field_validator

from monitor.limits import Limits
from settings.auth import SmtpSettings
from settings.model import MemoryMb, Model, url_of

LIMITS: Final = Limits()
MailAddress = Annotated[str, StringConstraints(pattern=r"^[^\s@,<>]+@[^\s@,<>]+$")]


class EmailSettings(Model):
    """Whom alerts are mailed to, and by which mail server."""

    to: tuple[MailAddress, ...] = Field(min_length=1, description="addresses that alerts are mailed to")
    smtp: SmtpSettings


class AlertSettings(Model):
    """Who is told of failed and late runs, workers that have gone, low disks, failed backups, ending certificates."""

    webhook: SecretStr | None = Field(
        None,
        description='URL that gets `{"text": ...}` by POST, as Slack, Mattermost, Rocket.Chat and Google Chat have it '
        "([alerts](alerts.md))",
    )
    email: EmailSettings | None = Field(None, description="mails beside the webhook, or instead of it")
    patience_seconds: int = Field(
        180, ge=10, description="what mends itself within it is told to nobody; failed runs are told at once"
    )
    disk_free_percent: int = Field(
        LIMITS.disk_free_percent, ge=1, le=99, description="a disk with less free, and less than 20 GB, is low"
    )
    certificate_days: int = Field(
        LIMITS.certificate_days, ge=1, description="a certificate with fewer left, and a fifth of its time, ends soon"
    )
    backup_hours: int = Field(LIMITS.backup_hours, ge=25, description="the last backup is not older")
    memory_mb: MemoryMb = 128

    @property
    def on(self) -> bool:
        """Whether anybody is told."""
        return bool(self.webhook or self.email)

    @field_validator("webhook")
    @classmethod
    def _is_a_url(cls, webhook: SecretStr | None) -> SecretStr | None:
        """A path or a query is often the secret: the message shows nothing of it."""
        if webhook is None:
            return None
        text = webhook.get_secret_value()
        try:
            url = url_of(text)
        except ValueError:
            url = None
        if url is None or url.scheme not in {"http", "https"} or not url.hostname or re.search(r"\s", text):
            raise ValueError("it is no URL to post to, and no alert would arrive. Write https://host/...")
        return webhook
