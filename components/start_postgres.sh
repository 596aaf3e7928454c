#!/bin/sh
# What Postgres' container runs before its image's own entrypoint, whichever image that is.

# Whether there is a database but the three of every server's.
used() {
  set -- "$PGDATA"/base/[0-9]*
  [ $# -gt 3 ]
}

# Whether the start that was to make the database was cut short: no later one would finish it. Only where no server ever
# answered to anybody: `postmaster.opts` has how the last one was started, and the image's own, for the time of making,
# listens to nobody. A copy that Postgres makes of itself has no such file.
half_made() {
  [ -d "$PGDATA/pg_wal" ] || return
  if [ -e "$PGDATA/postmaster.opts" ]; then grep -q '"listen_addresses="' "$PGDATA/postmaster.opts"; else ! used; fi
}

# Whether two segments of the write-ahead log fit on the disk: 32 MiB.
room() { df -Pk "$PGDATA" | { read -r _ && read -r _ _ _ free _ && [ "$free" -ge 32768 ]; }; }

if half_made; then
  echo "The start that was to make this database was cut short; it is made anew."
  find "$PGDATA" -mindepth 1 -delete
fi

# It would end at once, and Docker would start it again ever more rarely.
if ! room; then
  echo "The disk is full; Postgres starts when there is room again."
  trap 'exit 1' INT TERM
  until room; do sleep 1; done
fi

# The image asks for a password when it makes the database; nobody knows this one, and the roles get theirs after.
POSTGRES_PASSWORD=$(cat /proc/sys/kernel/random/uuid)
export POSTGRES_PASSWORD
# What is kept for who reads the log has a limit: one that stays away must not fill the disk.
exec docker-entrypoint.sh postgres -c max_slot_wal_keep_size=1GB
