#!/bin/bash
# Starts Postgres with the password that the stack holds now. The image sets it only when the database is made,
# so for an existing one the role is altered first, over stdin: the password is in no argument and no log.
set -euo pipefail

# Read as root, before the rights are dropped: its directory is closed to everybody else.
POSTGRES_PASSWORD=$(</root/postgres-password)
export POSTGRES_PASSWORD

if [[ -s $PGDATA/PG_VERSION ]]; then
  printf "ALTER ROLE \"%s\" PASSWORD '%s'\n" "$POSTGRES_USER" "${POSTGRES_PASSWORD//\'/\'\'}" |
    setpriv --reuid postgres --regid postgres --init-groups -- \
      postgres --single -D "$PGDATA" -c log_min_error_statement=panic postgres >/dev/null
fi

exec docker-entrypoint.sh postgres
