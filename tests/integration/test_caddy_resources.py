"""SiteFile through its whole life in a real Caddy, whose own site is served at every moment."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pulumi
import pytest
import urllib3

from providers.caddy.site_file import MARK, SiteFileProvider
from tests.e2e.environment import docker
from tests.integration.caddy import CONFIGURATION, ENGINE, THEIRS, RunningCaddy, running_caddy
from tests.integration.harness import OWNER, Case, Engine, Lifecycle, Props, failing

SCRIPT = Path(__file__).parents[2] / "providers" / "caddy" / "put_site.sh"


@pytest.fixture(scope="module", name="caddy")
def _caddy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCaddy]:
    """One Caddy for all tests that leave it running; they take names of their own."""
    with running_caddy(tmp_path_factory.mktemp("caddy")) as running:
        yield running


def inputs_for(caddy: RunningCaddy, **changes: object) -> Props:
    """Inputs with a name and a secret of their own; the secret is what is served."""
    name, secret = f"site-{secrets.token_hex(4)}", secrets.token_hex(12)
    host = f"{name}.example.com"
    return {
        "connection": ENGINE,
        "container": caddy.container,
        "path": f"{CONFIGURATION}/sites/{name}.caddy",
        "caddyfile": f"{CONFIGURATION}/Caddyfile",
        "content": caddy.site(host, secret),
        "hosts": [host],
        "credentials": [secret],
    } | changes


def program_for(caddy: RunningCaddy, **changes: object) -> Props:
    """As the program passes them."""
    return {"owner": OWNER, "adopt": False} | inputs_for(caddy, **changes)


def text_of(inputs: Props) -> str:
    return f"{MARK}{OWNER}\n{inputs['content']}"


def left_behind(caddy: RunningCaddy) -> list[str]:
    """What lies beside the files that Caddy imports."""
    return [path.name for path in caddy.directory.glob("sites/*") if path.suffix != ".caddy"]


@contextmanager
def served(caddy: RunningCaddy, *answers: tuple[str, str]) -> Iterator[None]:
    """What others see at every moment of the block: each host's answer."""
    ends = threading.Event()
    seen: list[tuple[str, object]] = []

    def look() -> None:
        while not ends.is_set():
            for host, _ in answers:
                try:
                    seen.append((host, caddy.get(host)))
                except urllib3.exceptions.HTTPError as error:
                    seen.append((host, error))
            ends.wait(0.01)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join(10)
    assert seen
    assert set(seen) == set(answers)


@pytest.fixture
def case(caddy: RunningCaddy) -> Iterator[Case]:
    inputs = inputs_for(caddy)
    [host], [secret] = inputs["hosts"], inputs["credentials"]
    newer = secrets.token_hex(12)

    def holds(of: Props) -> bool:
        file = caddy.file(of["path"])
        here = file.exists() and file.read_text() == text_of(of)
        return here and caddy.get(host) == of["credentials"][0] and not left_behind(caddy)

    with served(caddy, (THEIRS, "theirs")):
        yield Case(
            provider=SiteFileProvider(),
            inputs=inputs,
            update={"content": caddy.site(host, newer), "credentials": [newer]},
            replace={"path": inputs["path"].replace(".caddy", "-2.caddy")},
            holds=holds,
            exists=lambda of: caddy.file(of["path"]).exists(),
            drift=lambda: _write(caddy.file(inputs["path"]), text_of(inputs) + "# somebody was here\n"),
            vanish=caddy.file(inputs["path"]).unlink,
            foreign=lambda: _write(caddy.file(inputs["path"]), caddy.site(host, "somebody's")),
            invalid=[
                ("container", "a b"),
                ("path", "sites/prefect.caddy"),
                ("path", "/etc/caddy/../prefect.caddy"),
                ("caddyfile", "Caddyfile"),
                ("content", " "),
            ],
            secrets=(secret, newer),
        )


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


class TestSiteFile(Lifecycle):
    """In a Caddy that has another site."""


# What Caddy or we refuse.


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("respnd `{secret}`", "unrecognized directive: respnd"),
        ("respond `a` `b` {secret}", "after '[secret]'"),
        ("respond `x`\n\t}}\n}}", "does not qualify"),
        # What only shows when it is loaded.
        ("log {{\n\t\toutput file /dev/null/{secret}\n\t}}", "/dev/null"),
    ],
)
def test_what_caddy_refuses_is_taken_back(caddy: RunningCaddy, line: str, said: str) -> None:
    engine, program = Engine(SiteFileProvider()), program_for(caddy)
    [host], [secret] = program["hosts"], program["credentials"]
    broken = program | {"content": f"http://{host}:{caddy.port} {{\n\t{line.format(secret=secret)}\n}}\n"}
    with served(caddy, (THEIRS, "theirs")):
        text = failing(lambda: engine.up(broken), secret)
    assert said in text
    assert program["path"] in text
    assert not caddy.file(program["path"]).exists()
    engine.up(program)
    with served(caddy, (THEIRS, "theirs"), (host, secret)):
        assert said in failing(lambda: engine.up(broken), secret)
    assert caddy.file(program["path"]).read_text() == text_of(program)
    assert left_behind(caddy) == []
    assert engine.up(program) == "same"
    engine.destroy()


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_hosts_that_are_served_already_are_refused(caddy: RunningCaddy, scheme: str) -> None:
    """Even where they are written in another way, which Caddy takes for another site."""
    engine, program = Engine(SiteFileProvider()), program_for(caddy)
    engine.up(program)
    [host], [secret] = program["hosts"], program["credentials"]
    content = f"{program['content']}{caddy.site(THEIRS, 'ours').replace('http://', scheme)}"
    with served(caddy, (THEIRS, "theirs"), (host, secret)):
        text = failing(lambda: engine.up(program | {"content": content, "hosts": [host, THEIRS]}), secret)
    assert f"{CONFIGURATION}/Caddyfile has routes of its own for {THEIRS}" in text
    assert caddy.file(program["path"]).read_text() == text_of(program)
    assert left_behind(caddy) == []
    engine.destroy()


def test_a_caddyfile_that_is_broken_itself_is_named(tmp_path: Path) -> None:
    with running_caddy(tmp_path) as caddy:
        engine, program = Engine(SiteFileProvider()), program_for(caddy)
        engine.up(program)
        good = caddy.caddyfile.read_text()
        caddy.caddyfile.write_text(f"{good}nonsense {{\n\tnonsense\n}}\n")
        newer = program | {"content": caddy.site(program["hosts"][0], "newer")}
        for call in (lambda: engine.up(newer), engine.destroy):
            text = failing(call, *program["credentials"])
            assert f"Caddy refuses {CONFIGURATION}/Caddyfile even without it" in text
            assert "unrecognized directive: nonsense" in text
            assert caddy.file(program["path"]).read_text() == text_of(program)
            assert left_behind(caddy) == []
        caddy.caddyfile.write_text(good)
        assert engine.up(newer) == "update"


@pytest.mark.parametrize("imports", ["", f"{CONFIGURATION}/elsewhere/*.caddy"])
def test_a_caddyfile_that_does_not_import_it_is_named(tmp_path: Path, imports: str) -> None:
    with running_caddy(tmp_path, imports=imports) as caddy:
        engine, program = Engine(SiteFileProvider()), program_for(caddy)
        text = failing(lambda: engine.up(program), *program["credentials"])
        assert f"{CONFIGURATION}/Caddyfile does not import it" in text
        assert f"`import {CONFIGURATION}/sites/*.caddy`" in text
        assert list(caddy.directory.glob("sites/*")) == []
        with caddy.caddyfile.open("a") as file:
            file.write(f"import {CONFIGURATION}/sites/*.caddy\n")
        engine.up(program)
        assert caddy.get(program["hosts"][0]) == program["credentials"][0]


def test_without_the_admin_api_nothing_is_changed(tmp_path: Path) -> None:
    with running_caddy(tmp_path, options="admin off") as caddy:
        engine, program = Engine(SiteFileProvider()), program_for(caddy)
        text = failing(lambda: engine.up(program), *program["credentials"])
        assert "`admin off`" in text
        assert "restart the container once" in text
        caddy.caddyfile.write_text(caddy.caddyfile.read_text().replace("admin off", ""))
        # The running one has none, whatever the file says now.
        text = failing(lambda: engine.up(program), *program["credentials"])
        assert "Caddy runs without its admin API" in text
        assert list(caddy.directory.glob("sites/*")) == []
        caddy.restart()
        engine.up(program)
        assert caddy.get(program["hosts"][0]) == program["credentials"][0]


def test_a_path_on_no_mount_is_refused(caddy: RunningCaddy) -> None:
    text = failing(lambda: Engine(SiteFileProvider()).up(program_for(caddy, path="/srv/sites/prefect.caddy")))
    assert "/srv/sites lies on no mount" in text
    assert "Start the container with a directory of the host or a volume at /srv/sites" in text


def test_a_path_in_memory_is_refused(tmp_path: Path) -> None:
    with running_caddy(tmp_path, words=("--mount", "type=tmpfs,destination=/srv/sites")) as caddy:
        text = failing(lambda: Engine(SiteFileProvider()).up(program_for(caddy, path="/srv/sites/prefect.caddy")))
        assert "/srv/sites lies on no mount" in text


def test_a_mount_that_is_read_only_is_refused(tmp_path: Path) -> None:
    with running_caddy(tmp_path, mount="{directory}:/etc/caddy:ro") as caddy:
        text = failing(lambda: Engine(SiteFileProvider()).up(program_for(caddy)))
        assert "/etc/caddy is mounted read-only" in text


def test_a_directory_that_caddy_may_not_write_to_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with running_caddy(tmp_path, words=("--user", "1000", "--env", "HOME=/tmp")) as caddy:
        text = failing(lambda: Engine(SiteFileProvider()).up(program_for(caddy)))
        assert "Permission denied" in text
        assert "Let the user that the container runs as write to /etc/caddy/sites" in text


def test_a_container_that_is_not_there_is_named_and_needs_no_removal(tmp_path: Path) -> None:
    engine = Engine(SiteFileProvider())
    with running_caddy(tmp_path) as caddy:
        program = program_for(caddy)
        engine.up(program)
    stored = engine.state
    assert engine.refresh() == "gone"
    assert "there is no such container; nothing was changed" in failing(lambda: engine.up(program))
    engine.state = stored
    engine.destroy()


def test_a_container_that_is_no_caddy_is_refused(tmp_path: Path) -> None:
    with running_caddy(tmp_path) as caddy:
        docker("exec", caddy.container, "mv", "/usr/bin/caddy", "/usr/bin/nginx")
        assert "there is no caddy command in it" in failing(lambda: Engine(SiteFileProvider()).up(program_for(caddy)))


# What may happen meanwhile.


def test_a_stopped_container_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warnings.append)
    with running_caddy(tmp_path) as caddy:
        engine, program = Engine(SiteFileProvider()), program_for(caddy)
        engine.up(program)
        docker("stop", "--time", "5", caddy.container)
        newer = program | {"content": caddy.site(program["hosts"][0], "newer")}
        text = failing(lambda: engine.up(newer), *program["credentials"])
        assert f"the container {caddy.container} is exited" in text
        assert engine.refresh() == "same"
        assert [f"the container {caddy.container} is exited" in each for each in warnings] == [True]
        docker("start", caddy.container)
        caddy.wait()
        assert engine.up(newer) == "update"
        assert caddy.get(program["hosts"][0]) == "newer"


def test_it_outlives_the_container(tmp_path: Path) -> None:
    with running_caddy(tmp_path) as caddy:
        engine, program = Engine(SiteFileProvider()), program_for(caddy)
        engine.up(program)
    with running_caddy(tmp_path, options="# anew") as anew:
        # The port of the test is another one: only the file counts here.
        assert anew.file(program["path"]).read_text() == text_of(program)
        docker("exec", anew.container, "caddy", "validate", "--config", program["caddyfile"])


def test_a_caddyfile_may_import_it_by_its_name(tmp_path: Path) -> None:
    path = f"{CONFIGURATION}/prefect.caddy"
    (tmp_path / "prefect.caddy").touch()  # Else Caddy would not start.
    with running_caddy(tmp_path, imports=path) as caddy:
        engine, program = Engine(SiteFileProvider()), program_for(caddy, path=path)
        assert engine.up(program) == "create"
        assert caddy.get(program["hosts"][0]) == program["credentials"][0]
        engine.destroy()
        assert caddy.get(program["hosts"][0]) is None
        assert (tmp_path / "prefect.caddy").read_text() == ""
        caddy.restart()


def test_a_change_that_was_killed_half_way_is_done_again_or_taken_back(caddy: RunningCaddy) -> None:
    engine, program = Engine(SiteFileProvider()), program_for(caddy)
    engine.up(program)
    file = caddy.file(program["path"])
    broken = program | {"content": f"{program['hosts'][0]} {{\n\tnonsense\n}}\n"}
    # As put_site.sh leaves it when the machine goes down in the middle.
    saved = file.with_name(f".{file.name}.old")
    shutil.copy2(file, saved)
    file.write_text(text_of(broken))
    assert "Caddy refuses" in failing(lambda: engine.up(broken))
    assert file.read_text() == text_of(program)
    saved.write_text(text_of(program))
    file.write_text(text_of(program))
    assert engine.refresh() == "changed"
    assert engine.up(program) == "update"
    assert left_behind(caddy) == []
    # The same where it was the first: what is there may not be what Caddy serves.
    assert engine.state is not None
    engine.state = None
    file.write_text(text_of(broken))
    file.with_name(f".{file.name}.none").touch()
    assert "Caddy refuses" in failing(lambda: engine.up(broken))
    assert not file.exists()
    assert left_behind(caddy) == []


def test_what_arrives_in_part_is_not_served(caddy: RunningCaddy) -> None:
    path = f"{CONFIGURATION}/sites/part.caddy"
    words = ["docker", "exec", "--interactive", caddy.container, "sh", "-c", SCRIPT.read_text(), "sh", path]
    done = subprocess.run([*words, f"{CONFIGURATION}/Caddyfile", "100"], input=b"# The start", check=False, timeout=60)
    assert done.returncode == 66
    assert not caddy.file(path).exists()
    assert left_behind(caddy) == []


def test_it_is_done_to_the_end_when_whoever_started_it_is_killed(caddy: RunningCaddy) -> None:
    program = program_for(caddy)
    text = text_of(program).encode()
    words = ["docker", "exec", "--interactive", caddy.container, "sh", "-c", f"sleep 1\n{SCRIPT.read_text()}", "sh"]
    with subprocess.Popen(
        [*words, program["path"], program["caddyfile"], str(len(text)), *program["hosts"]], stdin=subprocess.PIPE
    ) as started:
        assert started.stdin
        started.stdin.write(text)
        started.stdin.flush()
        time.sleep(0.7)
        started.kill()
    end = time.monotonic() + 10
    while caddy.get(program["hosts"][0]) is None and time.monotonic() < end:
        time.sleep(0.1)
    assert caddy.get(program["hosts"][0]) == program["credentials"][0]
    engine = Engine(SiteFileProvider())
    assert engine.up(program) == "create"
    engine.destroy()


# Secrets.


def test_nobody_else_reads_it(caddy: RunningCaddy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "words"
    spy = tmp_path / "docker"
    spy.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {log}\nexec {shutil.which("docker")} "$@"\n')
    spy.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    engine, program = Engine(SiteFileProvider()), program_for(caddy)
    engine.up(program)
    assert caddy.file(program["path"]).stat().st_mode & 0o777 == 0o600
    engine.refresh()
    engine.destroy()
    assert program["path"] in log.read_text()
    assert program["credentials"][0] not in log.read_text()
    assert "respond" not in log.read_text()


def test_without_a_docker_command_the_error_says_so(
    caddy: RunningCaddy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = program_for(caddy)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no docker command on this machine" in failing(lambda: Engine(SiteFileProvider()).up(program))
