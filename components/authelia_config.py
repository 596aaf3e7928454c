"""Authelia's configuration and its users as text: from settings, and nothing else.

The text is JSON, which is YAML, too, and in which no name is mistaken for a number or a truth value.
https://www.authelia.com/configuration (4.38 and later; before, several keys had other names)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from components.postgres import Database
from settings import AccessSettings, AuthEndpoint, AuthSettings, ProxySettings, SmtpSettings

PORT: Final = 9091
DATA: Final = "/data"
DATABASE: Final = f"{DATA}/db.sqlite3"
NOTIFICATIONS: Final = f"{DATA}/notifications.txt"
RENAMED_KEYS: Final = (4, 38)
"""The first version with the present names of the keys."""
PASSWORD_CHANGE: Final = (4, 39)
"""The first version whose portal lets people change their password."""
SUBMISSIONS_PORT: Final = 465
SUBMISSION_PORT: Final = 587

Section = Mapping[str, object]


@dataclass(frozen=True)
class Configured:
    """What the configuration is made from."""

    version: tuple[int, ...]
    settings: AuthSettings
    proxy: ProxySettings
    session: str
    """Name of the session cookie: its domain may have other Authelias."""
    users: str
    """Path of the file with the users."""
    database: Database | None
    """Where second factors and failed attempts are kept; None: in a file."""
    authorities: str | None
    """Path of a directory with certificates of authorities that a mail server's may be from."""
    access: Mapping[str, AccessSettings]
    """Host, by its label below the domain, to who may see it."""

    @property
    def _present(self) -> bool:
        return self.version >= RENAMED_KEYS


def configuration(of: Configured) -> str:
    """Return configuration.yml. It holds no secret: they are files of their own."""
    proxy = of.proxy
    sections: dict[str, Section] = {
        "server": _server(of),
        "log": {"level": "info"},
        "telemetry": {"metrics": {"enabled": False}},
        "totp": {"issuer": proxy.domain},
        # It would ask a server in the internet, which many hosts can't reach.
        "ntp": {"disable_startup_check": True},
        "authentication_backend": {
            # Users are settings: what is changed here would be gone with the container.
            "password_reset": {"disable": True},
            **({"password_change": {"disable": True}} if of.version >= PASSWORD_CHANGE else {}),
            "file": {"path": of.users, "watch": False},
        },
        "access_control": {
            "default_policy": "deny",
            "rules": [
                {
                    "domain": proxy.host(label),
                    "policy": rule.policy.value,
                    **({"subject": [f"group:{group}" for group in rule.groups]} if rule.groups else {}),
                }
                for label, rule in of.access.items()
            ],
        },
        "session": _session(of),
        "regulation": {"max_retries": 3, "find_time": "2m", "ban_time": "5m"},
        "storage": _storage(of),
        # A mail server that is down must not keep people out.
        "notifier": {"disable_startup_check": True, **_notifier(of)},
    }
    top = {"theme": "auto"}
    if of.authorities:
        top["certificates_directory"] = of.authorities
    if not of._present:
        top["default_redirection_url"] = proxy.url(proxy.tasks)
    return _text({**top, **sections})


def users(settings: AuthSettings) -> str:
    """Return the user file (https://www.authelia.com/reference/guides/passwords). Its hashes are secrets."""
    return _text(
        {
            "users": {
                name: {
                    "disabled": user.disabled,
                    "displayname": user.display_name or name,
                    "password": user.password_hash.get_secret_value(),
                    "email": user.email,
                    "groups": user.groups,
                }
                for name, user in settings.users.items()
            }
        }
    )


def _server(of: Configured) -> Section:
    if not of._present:
        return {"host": "0.0.0.0", "port": PORT}  # noqa: S104
    # By default it takes a password with each request, too, where nothing throttles guessing.
    by_session = {"implementation": "ForwardAuth", "authn_strategies": [{"name": "CookieSession"}]}
    return {"address": f"tcp://:{PORT}/", "endpoints": {"authz": {AuthEndpoint.FORWARD_AUTH.value: by_session}}}


def _session(of: Configured) -> Section:
    proxy = of.proxy
    # A working day, and a long meeting; "remember me" is Authelia's month.
    common = {"name": of.session, "expiration": "12h", "inactivity": "2h"}
    if not of._present:
        return {**common, "domain": proxy.domain}
    cookie = {
        "domain": proxy.domain,
        "authelia_url": proxy.url(of.settings.portal),
        "default_redirection_url": proxy.url(proxy.tasks),
    }
    return {**common, "cookies": [cookie]}


def _storage(of: Configured) -> Section:
    database = of.database
    if database is None:
        return {"local": {"path": DATABASE}}
    address: Section = (
        {"address": f"tcp://{database.host}:{database.port}"}
        if of._present
        else {"host": database.host, "port": database.port}
    )
    return {"postgres": {**address, "database": database.database, "username": database.user}}


def _notifier(of: Configured) -> Section:
    smtp = of.settings.smtp
    if smtp is None:
        return {"filesystem": {"filename": NOTIFICATIONS}}
    address: Section = {"address": _address(smtp)} if of._present else {"host": smtp.host, "port": smtp.port}
    user = {"username": smtp.user} if smtp.user else {}
    return {"smtp": {**address, **user, "sender": smtp.sender}}


def _address(smtp: SmtpSettings) -> str:
    schemes = {SUBMISSIONS_PORT: "submissions", SUBMISSION_PORT: "submission"}
    return f"{schemes.get(smtp.port, 'smtp')}://{smtp.host}:{smtp.port}"


def _text(content: Section) -> str:
    return json.dumps(content, indent=2) + "\n"
