"""The Authelia that is built here, on the configuration and users that are rendered for it."""

from __future__ import annotations

import base64
import hmac
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import urllib3
from argon2 import PasswordHasher

from components.authelia_config import DATABASE, NOTIFICATIONS, Configured, configuration, users
from settings import AuthSettings, ProxySettings, Settings
from settings.images import BUILT_AUTHELIA
from tests.integration.ports import free_port
from toolchain.artefacts import artefact, built

START_SECONDS: Final = 20
DOMAIN: Final = "example.com"
PORTAL: Final = f"https://auth.{DOMAIN}/"
PASSWORD: Final = "an open door"
TRIES: Final = 3
"""Wrong passwords until a user is shut out."""


@dataclass(frozen=True)
class RunningAuthelia:
    """An Authelia, asked as Caddy asks it."""

    port: int
    notifications: Path
    page: bytes
    command: list[str]
    environment: Mapping[str, str]

    def ask(self, path: str, host: str, cookie: str = "", **body: object) -> urllib3.BaseHTTPResponse:
        """Pass a browser's request on to it, as a proxy does."""
        headers = {
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": f"{host}.{DOMAIN}",
            "X-Forwarded-Uri": "/",
            "X-Forwarded-Method": "GET",
            "Accept": "text/html",
            "Cookie": cookie,
        }
        url = f"http://127.0.0.1:{self.port}{path}"
        if body:
            return urllib3.request("POST", url, json=body, headers=headers, timeout=20)
        return urllib3.request("GET", url, headers=headers, redirect=False, timeout=20)

    def log_in(self, user: str, password: str = PASSWORD) -> str | None:
        """The session's cookie; None where the log-in is refused."""
        answer = self.ask("/api/firstfactor", "auth", username=user, password=password, keepMeLoggedIn=False)
        return answer.headers["Set-Cookie"].partition(";")[0] if answer.status == 200 else None

    def second_factor(self, cookie: str, key: str) -> str | None:
        """The session's next cookie, for the code of now; None where that is refused."""
        answer = self.ask("/api/secondfactor/totp", "auth", cookie, token=one_time(key))
        return answer.headers["Set-Cookie"].partition(";")[0] if answer.json()["status"] == "OK" else None

    def run(self, *words: str) -> str:
        """Output of a command beside it, as `docker exec` runs one in its container."""
        argv = [*self.command, *words]
        return subprocess.run(
            argv, env=self.environment, capture_output=True, text=True, timeout=30, check=True
        ).stdout  # fmt: skip

    def verify(self, host: str, cookie: str = "") -> urllib3.BaseHTTPResponse:
        """What Caddy does with every request to a guarded host."""
        return self.ask(f"/api/verify?rd={PORTAL}", host, cookie)


@pytest.fixture(scope="module", name="program")
def _program() -> str:
    binary = artefact("authelia")
    if not built(binary):
        pytest.fail(f"{binary.path} is missing: run `scripts/toolchain authelia` (about {binary.minutes} minutes)")
    return str(binary.path)


@pytest.fixture(scope="module", name="authelia")
def _authelia(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAuthelia]:
    directory, port = tmp_path_factory.mktemp("authelia"), free_port()
    command = [program, "--config", str(_rendered(directory))]
    environment = {
        "PATH": os.environ["PATH"],
        # What is about the container: elsewhere here.
        "AUTHELIA_SERVER_HOST": "127.0.0.1",
        "AUTHELIA_SERVER_PORT": str(port),
        "AUTHELIA_STORAGE_LOCAL_PATH": str(directory / Path(DATABASE).name),
        "AUTHELIA_NOTIFIER_FILESYSTEM_FILENAME": str(directory / Path(NOTIFICATIONS).name),
        **_secrets(directory),
    }
    with (
        (directory / "log").open("ab") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            page = _wait(f"http://127.0.0.1:{port}/", process, directory / "log")
            notifications = directory / Path(NOTIFICATIONS).name
            yield RunningAuthelia(port, notifications, page, command, environment)
        finally:
            process.terminate()


def _settings() -> AuthSettings:
    hashed = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    people: Mapping[str, Mapping[str, Any]] = {
        "ada": {"groups": ["admins"]},
        "bob": {},
        "eve": {"groups": ["admins"], "disabled": True},
        "guessed": {},
    }
    return AuthSettings.model_validate(
        {
            "mode": "managed",
            "users": {
                name: {"email": f"{name}@{DOMAIN}", "password_hash": hashed, **more} for name, more in people.items()
            },
            "access": {"tasks": {"groups": ["admins", "others"]}, "storage_console": {"policy": "two_factor"}},
        }
    )


def _rendered(directory: Path) -> Path:
    people, file = directory / "users.yml", directory / "configuration.yml"
    people.write_text(users(_settings()))
    proxy = ProxySettings.model_validate({"mode": "managed", "domain": DOMAIN})
    access = Settings.model_construct(auth=_settings(), proxy=proxy).guarded
    of = Configured(BUILT_AUTHELIA, _settings(), proxy, "door", str(people), None, None, access)
    file.write_text(configuration(of))
    return file


def _secrets(directory: Path) -> dict[str, str]:
    files = {name: directory / name for name in ("JWT_SECRET", "SESSION_SECRET", "STORAGE_ENCRYPTION_KEY")}
    for file in files.values():
        file.write_text(secrets.token_hex(32))
    return {f"AUTHELIA_{name}_FILE": str(file) for name, file in files.items()}


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> bytes:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            answer = urllib3.request("GET", url, headers={"X-Forwarded-Proto": "https"}, retries=False, timeout=2)
        except urllib3.exceptions.HTTPError:
            time.sleep(0.1)
            continue
        if answer.status == 200:
            return answer.data
    pytest.fail(f"Authelia did not get ready at {url} within {START_SECONDS} s:\n{log.read_text()[-2000:]}")


def test_the_rendered_configuration_is_valid(program: str, tmp_path: Path) -> None:
    command = [program, "validate-config", "--config", str(_rendered(tmp_path))]
    done = subprocess.run(command, env=_secrets(tmp_path), capture_output=True, text=True, timeout=30, check=True)
    assert "without errors" in done.stdout
    assert "warning" not in done.stdout


def test_it_is_the_version_that_it_is_configured_for(program: str) -> None:
    told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    assert told.split()[-1] == "v" + ".".join(map(str, BUILT_AUTHELIA))


def test_people_log_in_by_its_page(authelia: RunningAuthelia) -> None:
    (script,) = re.findall(r'src="\./(static/js/index\.[^"]+\.js)"', authelia.page.decode())
    answer = authelia.ask(f"/{script}", "auth")
    assert answer.status == 200
    assert "javascript" in answer.headers["Content-Type"]
    assert b"username-textfield" in answer.data


def test_a_stranger_is_sent_to_the_portal(authelia: RunningAuthelia) -> None:
    answer = authelia.verify("tasks")
    assert answer.status == 302
    assert answer.headers["Location"].startswith(f"{PORTAL}?rd=https%3A%2F%2Ftasks.{DOMAIN}%2F")


def test_a_user_of_a_group_comes_in_and_is_named(authelia: RunningAuthelia) -> None:
    answer = authelia.verify("tasks", authelia.log_in("ada") or "")
    assert answer.status == 200
    assert (answer.headers["Remote-User"], answer.headers["Remote-Groups"]) == ("ada", "admins")


def test_a_user_of_no_group_does_not(authelia: RunningAuthelia) -> None:
    cookie = authelia.log_in("bob")
    assert cookie
    assert authelia.verify("tasks", cookie).status == 403


def test_a_host_that_no_rule_names_is_closed(authelia: RunningAuthelia) -> None:
    assert authelia.verify("other", authelia.log_in("ada") or "").status == 403


def test_a_password_alone_is_not_two_factors(authelia: RunningAuthelia) -> None:
    assert authelia.verify("storage-console", authelia.log_in("ada") or "").status == 302


def test_a_second_factor_is_enrolled_by_a_link_and_opens_what_a_password_does_not(authelia: RunningAuthelia) -> None:
    cookie = authelia.log_in("ada") or ""
    assert authelia.ask("/api/secondfactor/totp/identity/start", "auth", cookie, nothing=None).status == 200
    text = authelia.notifications.read_text()
    assert f"ada@{DOMAIN}" in text
    [token] = re.findall(rf"{PORTAL}one-time-password/register\?token=([\w.-]+)", text)
    enrolled = authelia.ask("/api/secondfactor/totp/identity/finish", "auth", cookie, token=token).json()
    both = authelia.second_factor(cookie, enrolled["data"]["base32_secret"]) or ""
    assert authelia.verify("storage-console", both).status == 200


def test_a_lost_second_factor_is_deleted_and_another_enrolled(authelia: RunningAuthelia) -> None:
    uri = authelia.run("storage", "user", "totp", "generate", "bob")
    [key] = re.findall(r"secret=([A-Z2-7]+)", uri)
    cookie = authelia.log_in("bob") or ""
    authelia.run("storage", "user", "totp", "delete", "bob")
    assert authelia.second_factor(cookie, key) is None
    assert authelia.verify("storage-console", cookie).status == 302

    [key] = re.findall(r"secret=([A-Z2-7]+)", authelia.run("storage", "user", "totp", "generate", "bob"))
    both = authelia.second_factor(cookie, key) or ""
    assert authelia.verify("storage-console", both).status == 200
    authelia.run("storage", "user", "webauthn", "delete", "bob", "--all")


def one_time(key: str) -> str:
    """The code of now: https://www.rfc-editor.org/rfc/rfc6238."""
    padded = key + "=" * (-len(key) % 8)
    digest = hmac.digest(base64.b32decode(padded), int(time.time() // 30).to_bytes(8, "big"), "sha1")
    at = digest[-1] & 15
    return f"{(int.from_bytes(digest[at : at + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


@pytest.mark.parametrize(("user", "password"), [("ada", "wrong"), ("eve", PASSWORD), ("nobody", PASSWORD)])
def test_wrong_passwords_and_disabled_users_are_refused(authelia: RunningAuthelia, user: str, password: str) -> None:
    assert authelia.log_in(user, password) is None


def test_who_guesses_is_shut_out_for_a_while(authelia: RunningAuthelia) -> None:
    assert authelia.log_in("guessed")
    for _ in range(TRIES):
        assert authelia.log_in("guessed", "wrong") is None
    assert authelia.log_in("guessed") is None, "the right password comes too late"


def test_nobody_resets_a_password(authelia: RunningAuthelia) -> None:
    assert authelia.ask("/api/reset-password/identity/start", "auth", username="ada").status == 404
