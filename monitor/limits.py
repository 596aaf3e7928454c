"""What is low, old or about to end: the numbers that alerts and `scripts/status` share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

LOW_DISK_BYTES: Final = 20_000_000_000
"""A disk with more free than this is not low, however large it is."""
EXPIRY_SHARE: Final = 0.2
"""A certificate with more of its time left than this does not end soon: Caddy renews when a third is left."""
UNARCHIVED: Final = timedelta(minutes=10)
"""What happened in Postgres longer ago than this is in the repository, where it is kept by the minute."""


@dataclass(frozen=True)
class Limits:
    """Those that settings may change, with their defaults."""

    disk_free_percent: int = 10
    certificate_days: int = 14
    backup_hours: int = 30

    def disk_is_low(self, total_bytes: int, free_bytes: int) -> bool:
        """Say whether a disk is nearly full."""
        return free_bytes < min(LOW_DISK_BYTES, self.disk_free_percent / 100 * total_bytes)

    def ends_soon(self, left: timedelta, whole: timedelta) -> bool:
        """Say whether a certificate that is valid for `whole` should have been renewed by now."""
        return left < min(timedelta(days=self.certificate_days), EXPIRY_SHARE * whole)

    def backup_is_old(self, age: timedelta) -> bool:
        """Say whether the next backup is overdue."""
        return age > timedelta(hours=self.backup_hours)


def archive_is_late(age: timedelta) -> bool:
    """Say whether more is not in the repository than the next minute would bring there."""
    return age > UNARCHIVED
