"""Role in a real Postgres, which was made with a password that nobody knows."""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from components.postgres import DATA, START
from providers.postgres.role import RoleProvider
from tests.e2e.environment import docker, eventually
from tests.integration.caddy import ENGINE
from tests.integration.harness import OWNER, Engine, Props, failing, fresh_process
from tests.integration.images import image

__all__ = ["fresh_process"]

ADMIN = "prefect"
START_SECONDS = 60


@pytest.fixture(scope="module", name="postgres")
def _postgres() -> Iterator[str]:
    """The container's name."""
    name = made()
    try:
        docker("start", name)
        answers(name)
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


@pytest.fixture
def data() -> Iterator[str]:
    """A volume for the data."""
    name = f"prefect-environment-tests-postgres-{secrets.token_hex(4)}"
    yield name
    docker("volume", "rm", "--force", name)


def made(*options: str, script: str | None = None) -> str:
    """Name of a container that is not started yet."""
    name = f"prefect-environment-tests-postgres-{secrets.token_hex(4)}"
    given = {"POSTGRES_USER": ADMIN, "POSTGRES_DB": ADMIN, "PGDATA": DATA}
    environment = [word for key, value in given.items() for word in ("--env", f"{key}={value}")]
    docker(
        "create",
        "--name",
        name,
        *environment,
        *options,
        "--entrypoint",
        "sh",
        image("postgres"),
        "-c",
        script or START.read_text(),
    )
    return name


def answers(postgres: str) -> None:
    eventually(
        lambda: docker("exec", postgres, "pg_isready", "-h", "127.0.0.1", ok=False).endswith("accepting connections"),
        START_SECONDS,
    )


@contextmanager
def started(data: str) -> Iterator[str]:
    """The container on this data, once it answers."""
    name = made("--volume", f"{data}:{DATA}")
    try:
        docker("start", name)
        answers(name)
        yield name
    finally:
        docker("rm", "--force", name)


def program(postgres: str, password: str, **changes: object) -> Props:
    inputs = {"connection": ENGINE, "container": postgres, "admin": ADMIN, "role": ADMIN, "password": password}
    return {"owner": OWNER, "adopt": True} | inputs | changes


def query(postgres: str, sql: str) -> str:
    """Inside, where no password is asked for."""
    return docker("exec", postgres, "psql", "-XAtw", "-U", ADMIN, "-d", "postgres", "-c", sql)


def databases(postgres: str) -> dict[str, tuple[str, str]]:
    """Name to owner and object id."""
    rows = query(postgres, "SELECT datname, pg_get_userbyid(datdba), oid FROM pg_database").splitlines()
    return {name: (owner, oid) for name, owner, oid in (row.split("|") for row in rows)}


def lets_in(postgres: str, password: str, role: str = ADMIN, database: str = "postgres") -> bool:
    """Whether a neighbour signs in with the password."""
    return signs_in(postgres, password, f"dbname={database} user={role}", "SELECT 1")


def replicates(postgres: str, password: str, role: str) -> bool:
    """Whether a neighbour may read the write-ahead log."""
    return signs_in(postgres, password, f"user={role} replication=true", "IDENTIFY_SYSTEM")


def signs_in(postgres: str, password: str, how: str, command: str) -> bool:
    address = docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", postgres)
    environment = ["--env", f"PGPASSWORD={password}"]
    words = ["psql", "-Xw", "-d", f"host={address} {how}", "-c", command]
    neighbour = ["run", "--rm", *environment, "--entrypoint", words[0], image("postgres"), *words[1:]]
    return subprocess.run(["docker", *neighbour], capture_output=True, timeout=60, check=False).returncode == 0


def test_the_role_of_old_data_gets_the_password_and_keeps_it(postgres: str) -> None:
    first, second = 'it\'s \\ "old"', secrets.token_hex(12)
    engine = Engine(RoleProvider())
    assert engine.up(program(postgres, first)) == "create"
    assert engine.refresh() == "same"
    assert engine.up(program(postgres, first)) == "same"
    assert lets_in(postgres, first)
    assert not lets_in(postgres, second)

    assert engine.diff(program(postgres, second)) == (True, [], False)
    assert engine.up(program(postgres, second)) == "update"
    assert lets_in(postgres, second)
    assert not lets_in(postgres, first)

    query(postgres, f"ALTER ROLE {ADMIN} PASSWORD 'changed by hand'")
    assert engine.refresh() == "changed"
    assert engine.up(program(postgres, second)) == "update"
    assert lets_in(postgres, second)

    engine.destroy()
    assert lets_in(postgres, second)
    logs = docker("logs", postgres)
    assert second not in logs
    assert first not in logs


def test_sessions_go_on_while_the_password_changes(postgres: str) -> None:
    engine = Engine(RoleProvider())
    engine.up(program(postgres, secrets.token_hex(12)))
    words = ["docker", "exec", "--interactive", postgres, "psql", "-XAtw", "-U", ADMIN, "-d", "postgres"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdin
        assert session.stdout
        session.stdin.write("SELECT 'before';\n")
        session.stdin.flush()
        assert session.stdout.readline() == "before\n"
        assert engine.up(program(postgres, secrets.token_hex(12))) == "update"
        assert session.communicate("SELECT 'after';\n", timeout=20)[0] == "after\n"


def test_a_database_of_its_own_is_made_once(postgres: str) -> None:
    role, password = f"role_{secrets.token_hex(4)}", secrets.token_hex(12)
    own = program(postgres, password, role=role, database=role)
    engine = Engine(RoleProvider())
    assert engine.up(own) == "create"
    assert lets_in(postgres, password, role, role)
    made = databases(postgres)[role]
    assert made[0] == role
    assert role not in query(postgres, "SELECT rolname FROM pg_roles WHERE rolsuper").splitlines()
    assert engine.refresh() == "same"

    # Taken over, as after a `down`.
    engine.destroy()
    again = Engine(RoleProvider())
    assert again.up(own) == "create"
    assert databases(postgres)[role] == made

    query(postgres, f"DROP DATABASE {role}")
    assert again.refresh() == "changed"
    assert again.up(own) == "update"
    query(postgres, f"DROP DATABASE {role}")
    query(postgres, f"DROP ROLE {role}")
    assert again.refresh() == "gone"


def test_a_role_with_the_rights_of_another(postgres: str) -> None:
    """As a state of before has it, which knows of none; then with them, and after somebody took them away."""
    role, password = f"role-{secrets.token_hex(4)}", secrets.token_hex(12)
    engine = Engine(RoleProvider())
    assert engine.up(program(postgres, password, role=role)) == "create"
    member = program(postgres, password, role=role, member_of="pg_monitor")
    assert engine.up(member) == "update"
    assert engine.refresh() == "same"
    assert engine.up(member) == "same"
    rights = f"SELECT pg_has_role('{role}', 'pg_read_all_stats', 'USAGE'), pg_has_role('{role}', '{ADMIN}', 'USAGE')"
    assert query(postgres, rights) == "t|f"
    query(postgres, f'REVOKE pg_monitor FROM "{role}"')
    assert engine.refresh() == "changed"
    assert engine.up(member) == "update"
    assert query(postgres, rights) == "t|f"


def test_one_that_may_replicate_is_let_in_for_it_and_is_no_superuser(postgres: str) -> None:
    role, password = f"role_{secrets.token_hex(4)}", secrets.token_hex(12)
    plain = program(postgres, password, role=role)
    engine = Engine(RoleProvider())
    assert engine.up(plain) == "create"
    assert not replicates(postgres, password, role)
    assert engine.up(plain | {"replicates": True}) == "update"
    eventually(lambda: replicates(postgres, password, role), 10)
    assert not replicates(postgres, "another", role)
    assert role not in query(postgres, "SELECT rolname FROM pg_roles WHERE rolsuper").splitlines()
    assert engine.refresh() == "same"
    assert engine.up(plain | {"replicates": True}) == "same"

    # Data of another day may lack the rule.
    docker("exec", postgres, "sed", "-i", f"/{role}/d", f"{DATA}/pg_hba.conf")
    query(postgres, "SELECT pg_reload_conf()")
    eventually(lambda: not replicates(postgres, password, role), 10)
    assert engine.refresh() == "changed"
    assert engine.up(plain | {"replicates": True}) == "update"
    engine.up(plain | {"replicates": True})
    rules = docker("exec", postgres, "cat", f"{DATA}/pg_hba.conf").splitlines()
    assert len([rule for rule in rules if role in rule]) == 1


def test_what_keeps_it_from_being_made_is_told_without_the_password(postgres: str) -> None:
    password = secrets.token_hex(12)
    create = RoleProvider().create
    assert "no such container" in failing(lambda: create(program(f"{postgres}-not", password)), password)
    assert "nobody is not let in" in failing(lambda: create(program(postgres, password, admin="nobody")), password)
    docker("pause", postgres)
    try:
        assert "is paused" in failing(lambda: create(program(postgres, password)), password)
    finally:
        docker("unpause", postgres)


AS_POSTGRES = "exec setpriv --reuid postgres --regid postgres --init-groups bash -ec"
INITIALISED = f"initdb --username={ADMIN} --auth=trust {DATA}"
SERVED_TO_ITSELF = f"pg_ctl --pgdata {DATA} --wait start -o \"-c listen_addresses='' -p 5432\"; kill -9 -1"
"""The official image makes the database with a server like that: cut short before it has."""


@pytest.mark.parametrize("so_far", ["mkdir {DATA}/pg_wal", INITIALISED, f"{INITIALISED}; {SERVED_TO_ITSELF}"])
def test_a_first_start_that_was_cut_short_is_made_good(data: str, so_far: str) -> None:
    script = f"chown postgres {DATA}; {AS_POSTGRES} '{so_far.format(DATA=DATA)}'"
    docker("run", "--rm", "--volume", f"{data}:{DATA}", "--entrypoint", "sh", image("postgres"), "-c", script, ok=False)
    with started(data) as postgres:
        assert "cut short" in docker("logs", postgres)
        assert ADMIN in databases(postgres)


@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.9, 1.2, 1.5])
def test_a_first_start_that_is_killed_at_any_moment_is_made_good(data: str, seconds: float) -> None:
    killed = made("--volume", f"{data}:{DATA}")
    docker("start", killed)
    time.sleep(seconds)
    docker("rm", "--force", killed)
    with started(data) as postgres:
        # Whatever else was missing.
        Engine(RoleProvider()).up(program(postgres, secrets.token_hex(12), database=ADMIN))
        assert ADMIN in databases(postgres)


@pytest.mark.parametrize("lost", ["nothing", "postmaster.opts"])
def test_data_that_a_server_has_served_is_never_made_anew(data: str, lost: str) -> None:
    """A copy that Postgres makes of itself has no postmaster.opts."""
    with started(data) as postgres:
        query(postgres, "CREATE TABLE of_somebody AS SELECT 1 AS one")
        docker("kill", postgres)
        docker(
            "run", "--rm", "--volume", f"{data}:{DATA}", "--entrypoint", "rm", image("postgres"), "-f", f"{DATA}/{lost}"
        )
    with started(data) as postgres:
        assert query(postgres, "SELECT one FROM of_somebody") == "1"
        assert "cut short" not in docker("logs", postgres)


def test_a_full_disk_ends_it_and_room_starts_it_again_at_once() -> None:
    """Docker alone would wait longer and longer between its starts, up to a minute."""
    small = f"prefect-environment-tests-postgres-{secrets.token_hex(4)}"
    options = [word for key in ("type=tmpfs", "device=tmpfs", "o=size=200m") for word in ("--opt", key)]
    docker("volume", "create", *options, small)
    mount = ("--volume", f"{small}:{DATA}")
    # What is on it lives as long as anybody has it.
    keeper, postgres = made(*mount, script="exec sleep infinity"), made(*mount, "--restart", "unless-stopped")
    try:
        docker("start", keeper, postgres)
        answers(postgres)
        query(postgres, "CREATE TABLE kept AS SELECT 1 AS one")
        docker("exec", keeper, "sh", "-c", f"cat /dev/zero >{DATA}/filler", ok=False)
        write = "SELECT pg_logical_emit_message(true, 'full', repeat('x', 40000000))"
        docker("exec", postgres, "psql", "-XAtw", "-U", ADMIN, "-d", "postgres", "-c", write, ok=False)
        eventually(lambda: "starts when there is room again" in docker("logs", postgres), 30)
        # What Docker would take for a start that went well.
        time.sleep(12)
        assert docker("inspect", "--format", "{{.RestartCount}} {{.State.Status}}", postgres) == "1 running"
        docker("exec", keeper, "rm", f"{DATA}/filler")
        begin = time.monotonic()
        answers(postgres)
        assert time.monotonic() - begin < 10
        assert query(postgres, "SELECT one FROM kept") == "1"
        begin = time.monotonic()
        docker("exec", keeper, "sh", "-c", f"cat /dev/zero >{DATA}/filler", ok=False)
        docker("restart", "--time", "20", postgres)
        eventually(lambda: docker("logs", postgres).count("starts when there is room again") == 2, 10)
        begin = time.monotonic()
        docker("stop", "--time", "20", postgres)
        assert time.monotonic() - begin < 10, "one that waits can be told to end"
    finally:
        docker("rm", "--force", postgres, keeper)
        docker("volume", "rm", small)
