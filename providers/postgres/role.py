"""A role of a Postgres in a container, its password, and the database that it owns.

https://www.postgresql.org/docs/current/sql-alterrole.html, https://www.postgresql.org/docs/current/app-psql.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import pulumi

from providers.base import Args, Found, Props, Provider, ProviderError, Resource, matching
from providers.connection import EngineConnection, UnreachableError, plain
from providers.engine import Engine, EngineClient

LOOK: Final = """
pg_isready -q -h "$HOSTNAME" || exit 64
is() { psql -XAtqw -U "$1" -d postgres -c "SELECT 1 FROM $2 WHERE $3 = '$4'"; }
role=$(is "$1" pg_roles rolname "$2") || exit 65
[ "$role" ] || exit 66
database=$(is "$1" pg_database datname "$3") || exit 65
[ "$database" ] && echo database
member=$(is "$1" pg_auth_members "member = '\"$2\"'::regrole AND roleid::regrole::text" "$4") || exit 65
[ "$member" ] && echo member
export PGPASSWORD="$(cat)" PGHOST="$HOSTNAME" PGUSER="$2"
psql -Xqw -d postgres -c '' 2> /dev/null && echo password
psql -Xqw 'replication=true' -c IDENTIFY_SYSTEM > /dev/null 2>&1 && echo replication
exit 0
"""
"""look ADMIN ROLE DATABASE GROUP, with the password to try on its input: at the container's own address, where Postgres
asks for one. Exit codes: 64 it does not listen yet; 65 ADMIN is not let in; 66 there is no ROLE."""
NOT_READY: Final = 64
MISSING: Final = 66

RUN: Final = 'exec psql -Xqw -v ON_ERROR_STOP=1 -U "$1" -d postgres > /dev/null'
"""run ADMIN, with SQL on its input."""

LET_IN: Final = r"""
rule="host replication \"$1\" all scram-sha-256"
grep -qxF "$rule" "$PGDATA/pg_hba.conf" || printf '%s\n' "$rule" >> "$PGDATA/pg_hba.conf"
"""
"""let_in ROLE: the images' own rules let nobody from elsewhere replicate. Postgres must be told to read it."""

name_rule = matching(r"[a-z0-9_-]{1,63}", "must be lower case letters, digits, dashes and underscores, at most 63")


@dataclass(frozen=True)
class RoleArgs(Args[EngineConnection]):
    """What a role is."""

    container: str
    """Name of Postgres' container; another one is another role."""
    admin: str
    """The superuser that was made with the data; no password is asked for in the container."""
    role: str
    """Its name; another one is another role. It may be `admin` itself."""
    password: pulumi.Input[str]
    """What it signs in with; changed in place, while sessions go on."""
    database: str | None = None
    """A database of its own, made where there is none."""
    member_of: str | None = None
    """A role whose rights it has, too: one of https://www.postgresql.org/docs/current/predefined-roles.html."""
    replicates: bool | None = None
    """Whether it may read the write-ahead log and the files of all databases: True, or None."""


class RoleProvider(Provider[RoleArgs, EngineConnection, EngineClient]):
    """Roles bear no mark: one that the password lets in is what was asked for.

    A role that is deleted stays, as does its database: what it owns is data.
    """

    server = Engine()
    args_type = RoleArgs
    kind = "role"
    identity = ("container", "role")
    secrets = ("password",)
    state_only = Provider.state_only | {"admin"}
    rules: ClassVar = {"admin": name_rule, "role": name_rule, "database": name_rule, "member_of": name_rule}

    def id(self, args: RoleArgs) -> str:
        return args.role

    def find(self, client: EngineClient, args: RoleArgs) -> Found | None:
        container = client.container(args.container)
        if container is None:
            return None
        words = (args.admin, args.role, args.database or "", args.member_of or "")
        said = client.shell(container, LOOK, *words, given=plain(args.password))
        if said.code == NOT_READY:
            raise UnreachableError(f"Postgres in {args.container} does not accept connections")
        if said.code == MISSING:
            return None
        if said.code:
            raise ProviderError(f"{args.admin} is not let in: {said.last}")
        there = said.output.split()
        return Found(
            {
                "password": plain(args.password) if "password" in there else None,
                "database": args.database if "database" in there else None,
                "member_of": args.member_of if "member" in there else None,
                "replicates": args.replicates if "replication" in there else None,
            }
        )

    def make(self, client: EngineClient, args: RoleArgs) -> Props:
        container = client.container(args.container)
        if container is None:
            raise ProviderError("there is no such container; nothing was changed.")
        let_in = [client.shell(container, LET_IN, args.role)] if args.replicates else []
        for said in (*let_in, client.shell(container, RUN, args.admin, given=_sql(args))):
            if said.code:
                raise ProviderError(f"Postgres refuses it: {said.last}")
        return {}

    def change(self, client: EngineClient, args: RoleArgs, _found: Found) -> Props:
        return self.make(client, args)

    def remove(self, client: EngineClient, args: RoleArgs, found: Found) -> None:
        """Nothing."""


def _sql(args: RoleArgs) -> str:
    role = f'"{args.role}"'
    password = plain(args.password).replace("'", "''")
    lines = [
        # A statement with a password is in no log, whatever becomes of it.
        "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic';",
        *_unless("pg_roles", "rolname", args.role, f"CREATE ROLE {role} LOGIN"),
        f"ALTER ROLE {role} PASSWORD '{password}';",
    ]
    if args.member_of:
        lines.append(f'GRANT "{args.member_of}" TO {role};')
    if args.replicates:
        lines += [f"ALTER ROLE {role} REPLICATION;", "SELECT pg_reload_conf();"]
    if args.database:
        lines += _unless("pg_database", "datname", args.database, f'CREATE DATABASE "{args.database}" OWNER {role}')
    return "\n".join([*lines, ""])


def _unless(table: str, column: str, name: str, make: str) -> list[str]:
    """The statement `make`, where the table has no such name yet."""
    return [f"SELECT '{make}' WHERE NOT EXISTS (SELECT FROM {table} WHERE {column} = '{name}')", "\\gexec"]  # noqa: S608  (names are checked)


class Role(Resource, module="postgres", name="Role"):
    """A role; it is made after the container that it lives in."""

    def __init__(self, name: str, args: RoleArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(RoleProvider(), name, args, opts, secret=("password",))
