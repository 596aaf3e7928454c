"""Alerts arrive by webhook and mail from a stack where each thing goes wrong; those of backups: test_backup.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import pytest

from tests.e2e.environment import NAMESPACE, Environment, eventually
from tests.e2e.hosts import Hosted, needs_disk
from tests.e2e.test_status import problem
from tests.receivers import SECRET_PATH, Mails, Posts, certificate, mails, posts

pytestmark = pytest.mark.xdist_group("lived-in")

WORKER: Final = "prefect-worker-dask-1"
DOMAIN: Final = "lived-in.test"
CERTIFICATES: Final = "/etc/ending"
PATIENCE: Final = 10
NOTICED: Final = 60 + 2 * PATIENCE + 60
"""Seconds from the end of a worker to the last alert: its queue is not ready after 60 s at most; and some."""


@dataclass(frozen=True)
class Told:
    """Who gets the alerts of a stack."""

    env: Hosted
    webhook: Posts
    mail: Mails

    def eventually(self, subject: str, seconds: float = 60) -> str:
        """The text of the one alert that says so, once it has arrived by webhook and by mail."""
        eventually(self._by(self.webhook, subject), seconds)
        eventually(self._by(self.mail, subject), 60)
        [text] = self.webhook.about(subject)
        [_] = self.mail.about(subject)
        return text

    @staticmethod
    def _by(receiver: Posts | Mails, subject: str) -> Callable[[], Any]:
        return lambda: receiver.about(subject)


@pytest.fixture(scope="module", name="told")
def _told(lived_in: Hosted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Listen where the host sees this machine: nothing leaves it. Certificates are about to end."""
    address = lived_in.host.operator_address
    ending = tmp_path_factory.mktemp("ending")
    certificate(ending, timedelta(days=90), timedelta(days=3), f"*.{DOMAIN}")
    lived_in.host.put(ending, CERTIFICATES)
    door = lived_in.settings["proxy"]
    with posts(address) as webhook, mails(address) as mail:
        smtp = {"host": address, "port": mail.port, "sender": f"prefect@{DOMAIN}"}
        lived_in.write_settings(
            alerts={"email": {"to": [f"ops@{DOMAIN}"], "smtp": smtp}, "patience_seconds": PATIENCE},
            proxy={**door, "certificates": "files", "certificate_directory": CERTIFICATES},
        )
        lived_in.pulumi("config", "set", "--secret", "--path", f"{NAMESPACE}:alerts.webhook", webhook.url)
        lived_in.apply()
        yield Told(lived_in, webhook, mail)
        lived_in.write_settings(alerts=None, proxy=door)
        lived_in.apply()


def start(env: Environment, **how: Any) -> str:
    """Start a greeting; the id of its flow run."""
    found = env.http("/deployments/name/greetings/test-deployment")
    return str(env.http(f"/deployments/{found['id']}/create_flow_run", how)["id"])


def test_each_alert_arrives_once_and_names_its_thing(told: Told) -> None:
    env = told.env
    told.eventually("[lived-in] the monitor has started")
    # A worker whose command ends at once has a run that nobody else can tell of.
    crashed = start(env, job_variables={"command": "false"})
    assert env.followed(crashed)["state_type"] == "CRASHED"
    env.docker("stop", env.name(WORKER))
    late = start(env)
    links = {
        "[lived-in] greetings is Crashed": f"/runs/flow-run/{crashed}",
        "[lived-in] greetings/test-deployment is late": f"/runs/flow-run/{late}",
        "[lived-in] no worker for dask-pool": "/work-pools/work-pool/dask-pool",
        f"[lived-in] expiring certificate: tasks.{DOMAIN}": "was not renewed",
    }
    for subject, link in links.items():
        text = told.eventually(subject, NOTICED)
        assert link in text
        assert "\nFirst: " in text
    assert f"https://tasks.{DOMAIN}:3043/runs/" in told.eventually("greetings is Crashed")
    env.docker("start", env.name(WORKER))
    assert env.followed(late)["state_type"] == "COMPLETED"


@needs_disk
def test_a_disk_that_is_nearly_full_is_told_of(told: Told) -> None:
    with told.env.host.filled(left_percent=1):
        assert "GB are free" in told.eventually("[lived-in] low disk: containers and volumes", NOTICED)
        problem(told.env, "host", "are free for containers and volumes")
    told.eventually("[lived-in] over: low disk: containers and volumes", NOTICED)


def test_the_url_is_shown_to_nobody(told: Told) -> None:
    env = told.env
    block = env.http("/block_types/slug/custom-webhook/block_documents/name/alerts?include_secrets=true")
    assert SECRET_PATH not in json.dumps(block)
    assert SECRET_PATH not in json.dumps(env.exported())
    assert SECRET_PATH not in env.docker("logs", env.name("monitor"))
    assert SECRET_PATH not in env.docker("inspect", env.name("monitor"))


def test_the_monitor_is_nobody(told: Told) -> None:
    monitor = told.env.name("monitor")
    users = told.env.docker("top", monitor, "-eo", "pid,uid,args")
    assert [line.split()[1] for line in users.splitlines() if "-m monitor" in line and "tini" not in line] == ["65534"]
    eventually(lambda: told.env.health("monitor") == "healthy", 60)
