"""What somebody with a browser sees of the front door: Debian's Chromium, from the log-in to the log-out."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.e2e.environment import ROOT, docker
from tests.e2e.front_door import ADDRESS, DOMAIN, PASSWORD, TICKING, FrontDoor

pytestmark = pytest.mark.xdist_group("front")

CHROMIUM: Final = "/usr/bin/chromium"
ARTEFACTS: Final = ROOT / "tests" / "artefacts"
"""Screenshots of the latest run; git ignores them."""
SECONDS: Final = 30


@pytest.fixture(scope="module", name="browser")
def _browser(front: FrontDoor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, which finds the hosts and trusts the proxy's authority.

    In the network of Caddy's container, where root can: on the host it drops what is under way when a Docker network
    comes or goes, as other tests' do.
    """
    expect.set_options(timeout=SECONDS * 1000)
    start = tmp_path_factory.mktemp("browser") / "chromium"
    there = f"nsenter --net=/proc/{docker('inspect', '--format', '{{.State.Pid}}', front.env.name('caddy'))}/ns/net"
    start.write_text(f'#!/bin/sh\nexec {there if os.geteuid() == 0 else ""} {CHROMIUM} "$@"\n')
    start.chmod(0o755)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=start,
            args=[
                f"--host-resolver-rules=MAP *.{DOMAIN} {ADDRESS}",
                f"--ignore-certificate-errors-spki-list={key_digest(front)}",
                "--no-sandbox",  # Tests run as root on Debian, where Chromium starts in no other way.
            ],
        )
        yield chromium
        chromium.close()


def key_digest(front: FrontDoor) -> str:
    """Digest of the public key of the authority that signs the hosts' certificates, as Chromium takes it."""
    certificate = docker("exec", front.env.name("caddy"), "cat", "/data/caddy/pki/authorities/local/intermediate.crt")
    public = subprocess.run(
        ["openssl", "x509", "-noout", "-pubkey"],
        input=certificate,
        text=True,
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout
    body = "".join(line for line in public.splitlines() if not line.startswith("-----"))
    return base64.b64encode(hashlib.sha256(base64.b64decode(body)).digest()).decode()


@pytest.fixture(name="page")
def _page(browser: Browser) -> Iterator[Page]:
    """A page of somebody who has no session yet."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield context.new_page()
    context.close()


def picture(page: Page, name: str) -> None:
    """Keep what the page looks like."""
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png")


def log_in(page: Page, user: str = "ada", password: str = PASSWORD) -> None:
    """Fill in the portal's form."""
    page.locator("#username-textfield").fill(user)
    page.locator("#password-textfield").fill(password)
    page.locator("#sign-in-button").click()


def at(url: str) -> re.Pattern[str]:
    """Matches URLs below `url`."""
    return re.compile(re.escape(url) + r"(/|\?|$)")


def requests_elsewhere(context: BrowserContext) -> list[str]:
    """Will hold the URLs outside of the domain that pages got an answer from."""
    elsewhere: list[str] = []
    context.on("requestfinished", lambda asked: None if f".{DOMAIN}:" in asked.url else elsewhere.append(asked.url))
    return elsewhere


def test_a_wrong_password_stays_at_the_portal(front: FrontDoor, page: Page) -> None:
    page.goto(front.url("tasks"))
    expect(page).to_have_url(at(front.url("auth")))
    picture(page, "portal")
    log_in(page, password="wrong")
    expect(page.get_by_text("Incorrect username or password")).to_be_visible()
    expect(page).to_have_url(at(front.url("auth")))
    page.goto(f"{front.url('tasks')}/v2/runs")
    expect(page).to_have_url(at(front.url("auth")))


def test_somebody_outside_the_group_sees_nothing(front: FrontDoor, page: Page) -> None:
    page.goto(front.url("tasks"))
    log_in(page, "outside")
    page.wait_for_timeout(2000)
    refused = page.goto(front.url("tasks"))
    assert refused is not None
    assert refused.status == 403


def test_prefect_after_the_log_in(front: FrontDoor, page: Page) -> None:
    elsewhere = requests_elsewhere(page.context)
    page.goto(front.url("tasks"))
    expect(page).to_have_url(at(front.url("auth")))
    log_in(page)
    expect(page).to_have_url(at(f"{front.url('tasks')}/v2/dashboard"))
    expect(page.get_by_text("Flow Runs").first).to_be_visible()
    page.wait_for_timeout(2000)  # for the rest of it, for the picture's sake
    picture(page, "dashboard")
    # The run that `scripts/up` left Completed.
    chosen = {"flows": {"name": {"any_": ["greetings"]}}, "sort": "START_TIME_ASC", "limit": 1}
    [first] = front.env.http("/flow_runs/filter", chosen)
    page.goto(f"{front.url('tasks')}/v2/runs")
    expect(page.get_by_text("greetings").first).to_be_visible()
    expect(page.get_by_text("Completed").first).to_be_visible()
    page.get_by_role("link", name=first["name"], exact=True).click()
    expect(page).to_have_url(at(f"{front.url('tasks')}/v2/runs/flow-run"))
    expect(page.get_by_text("submitted to infrastructure")).to_be_visible()
    expect(page.get_by_text("10 Task runs")).to_be_visible()
    page.wait_for_timeout(2000)  # for the graph to settle, for the picture's sake
    picture(page, "greetings")
    assert not elsewhere


def test_logs_come_while_the_flow_runs(front: FrontDoor, page: Page) -> None:
    page.goto(front.url("tasks"))
    log_in(page)
    expect(page).to_have_url(at(front.url("tasks")))
    deployment = front.env.http(f"/deployments/name/{TICKING}/often")
    flow_run = front.env.http(f"/deployments/{deployment['id']}/create_flow_run", {})
    page.goto(f"{front.url('tasks')}/v2/runs/flow-run/{flow_run['id']}")
    # Nothing is loaded again from here on: what appears was fetched by the page itself.
    page.evaluate("window.same = true")
    expect(page.get_by_text("tick 0", exact=True)).to_be_visible(timeout=SECONDS * 3000)
    expect(page.get_by_text("Running", exact=True).first).to_be_visible()
    shown = page.get_by_text(re.compile(r"^tick \d+$")).count()
    page.set_viewport_size({"width": 1280, "height": 6000})  # Only lines that would be seen are in the page.
    expect(page.get_by_text(f"tick {shown + 5}", exact=True)).to_be_visible()
    expect(page.get_by_text("Running", exact=True).first).to_be_visible()
    assert page.evaluate("window.same")
    page.set_viewport_size({"width": 1280, "height": 800})
    picture(page, "live-logs")


def test_a_deployment_is_started_by_a_click(front: FrontDoor, page: Page) -> None:
    """What changes something passes, too: from this host's own pages."""
    page.goto(front.url("tasks"))
    log_in(page)
    expect(page).to_have_url(at(front.url("tasks")))
    deployment = front.env.http("/deployments/name/greetings/test-deployment")
    page.goto(f"{front.url('tasks')}/v2/deployments/deployment/{deployment['id']}")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Quick run").click()
    with page.expect_response(re.compile("/create_flow_run$")) as created:
        page.get_by_role("dialog").get_by_role("button", name="Run", exact=True).click()
    assert created.value.status == 201
    assert front.env.followed(created.value.json()["id"])["state_type"] == "COMPLETED"


def test_the_first_ui_asks_nothing_either(front: FrontDoor, page: Page) -> None:
    page.context.add_cookies([{"name": "prefect_ui_version", "value": "v1", "url": front.url("tasks")}])
    page.goto(f"{front.url('tasks')}/runs")
    log_in(page)
    expect(page).to_have_url(at(f"{front.url('tasks')}/runs"))
    expect(page.get_by_text("greetings").first).to_be_visible()
    picture(page, "first-ui")


def test_the_console_shows_the_bucket(front: FrontDoor, page: Page) -> None:
    # Who opens the S3 API in a browser ends at the console, behind the portal.
    page.goto(front.url("storage"))
    expect(page).to_have_url(at(front.url("auth")))
    log_in(page)
    expect(page).to_have_url(at(front.url("storage-console")))
    page.locator("#accessKey").fill("minio-root")
    page.locator("#secretKey").fill(front.env.secret("minio_root_password"))
    page.get_by_role("button", name="Login").click()
    expect(page).to_have_url(at(f"{front.url('storage-console')}/browser"))
    page.goto(f"{front.url('storage-console')}/browser/flows")
    page.get_by_role("button", name="Acknowledge").click()  # the licence
    # What is in it comes over a websocket.
    expect(page.get_by_role("gridcell").first).to_be_visible()
    picture(page, "console")
    assert all(cookie["secure"] for cookie in page.context.cookies() if cookie["name"] != "prefect_ui_version")


def test_prometheus_after_the_log_in(front: FrontDoor, page: Page) -> None:
    """The pages of Debian's; Grafana's can't be seen without an image registry to have it from."""
    elsewhere = requests_elsewhere(page.context)
    page.goto(front.url("metrics"))
    expect(page).to_have_url(at(front.url("auth")))
    log_in(page)
    expect(page).to_have_url(at(f"{front.url('metrics')}/classic/graph"))
    page.goto(f"{front.url('metrics')}/classic/targets")
    for job in ("dask-scheduler", "dask-worker", "minio", "minio-buckets", "postgres", "prefect", "prefect-server"):
        expect(page.get_by_role("link", name=f"{job} (1/1 up)")).to_be_visible()
    picture(page, "prometheus-targets")
    query = "g0.expr=prefect_flow_runs_ended_last_hour&g0.tab=0&g0.range_input=15m"
    page.goto(f"{front.url('metrics')}/classic/graph?{query}")
    expect(page.get_by_text(re.compile('prefect_flow_runs_ended_last_hour{.*state="completed"}')).first).to_be_visible()
    picture(page, "prometheus-graph")
    assert not elsewhere


def test_who_logs_out_is_out(front: FrontDoor, page: Page) -> None:
    page.goto(front.url("tasks"))
    log_in(page)
    expect(page).to_have_url(at(front.url("tasks")))
    page.goto(f"{front.url('auth')}/logout")
    expect(page.locator("#username-textfield")).to_be_visible()
    picture(page, "logged-out")
    for host in ("tasks", "storage-console"):
        page.goto(front.url(host))
        expect(page).to_have_url(at(front.url("auth")))
