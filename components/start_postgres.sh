#!/bin/bash
# Starts Postgres with the passwords that the stack holds now. The image sets one only when the database is made,
# so for an existing one the roles are altered first, over stdin: a password is in no argument and no log.
# With /root/authelia-password there is a role `authelia`, too, with a database of its own.
set -euo pipefail

as_postgres() { setpriv --reuid postgres --regid postgres --init-groups -- "$@"; }

# SQL from stdin, one command a line.
run() { as_postgres postgres --single -D "$PGDATA" -c log_min_error_statement=panic postgres; }

literal() { printf "'%s'" "${1//\'/\'\'}"; }

# Read as root, before the rights are dropped: its directory is closed to everybody else.
POSTGRES_PASSWORD=$(</root/postgres-password)
export POSTGRES_PASSWORD

if [[ -e /root/authelia-password && ! -s $PGDATA/PG_VERSION ]]; then
  # The image makes the database as it starts Postgres, and has made all of it when that listens.
  docker-entrypoint.sh postgres &
  until pg_isready --quiet --host 127.0.0.1; do
    [[ -d /proc/$! ]] || exit 1
    sleep 0.2
  done
  as_postgres pg_ctl stop --pgdata "$PGDATA" --mode fast --silent
fi

if [[ -s $PGDATA/PG_VERSION ]]; then
  {
    echo "ALTER ROLE \"$POSTGRES_USER\" PASSWORD $(literal "$POSTGRES_PASSWORD")"
    if [[ -e /root/authelia-password ]]; then
      echo "DO \$\$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'authelia')" \
        "THEN CREATE ROLE authelia LOGIN; END IF; END\$\$"
      echo "ALTER ROLE authelia PASSWORD $(literal "$(</root/authelia-password)")"
    fi
  } | run >/dev/null
  if [[ -e /root/authelia-password && $(run <<<"SELECT datname FROM pg_database") != *'"authelia"'* ]]; then
    run <<<"CREATE DATABASE authelia OWNER authelia" >/dev/null
  fi
fi

exec docker-entrypoint.sh postgres
