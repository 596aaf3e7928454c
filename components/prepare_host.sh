#!/bin/sh
# Prepares a Debian or Ubuntu host for the environment, and changes nothing where nothing is missing.
#
# host_preparation.py sends it over ssh, to run as root; what it puts before this text sets
#   CHECK            yes: say what is missing, change nothing, end with 1 if anything is
#   FREE_MB          free space that must be there, in MiB
#   DATA_DIRECTORY   directory for data, made for root alone where it doesn't exist; may be empty
#   PRIVATE_ADDRESS  address of the host on a private network, where ports are published on it; may be empty
#   FIREWALL         text of the program that closes what old engines leave open (host_firewall.sh)
# and its arguments are the user that signed in and the time on the operator's machine, in seconds since 1970.
set -eu
user=$1
now=$2

OLDEST_ENGINE=20.10
# What the Docker provider speaks that is built where the official one can't be had; engines from 29 on begin at 1.44.
OLDEST_API=1.41
CONFIGURATION=/etc/docker/daemon.json
CLOCK_SECONDS=60
DOCKER_SITE=https://download.docker.com/linux
# The key file is the same for Debian and Ubuntu; its fingerprint is 9DC8 5822 9FC7 DD38 854A E2D8 8D81 803C 0EBF CD88.
DOCKER_KEY_SHA256=1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570
KEY=/etc/apt/keyrings/docker.asc
SOURCE=/etc/apt/sources.list.d/docker.sources
PROGRAM=/usr/local/sbin/prefect-environment-firewall
UNIT=prefect-environment-firewall.service
PRIVATE_ADDRESSES=/etc/prefect-environment/private-addresses
ENGINE_SECONDS=60

export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l LC_ALL=C
umask 022
log=$(mktemp)
trap 'rm -f "$log"' EXIT
missing=0

fail() {
  echo "prepare: $1" >&2
  exit 1
}

# Announces a change; false where only a check was asked for.
change() {
  if [ "$CHECK" = yes ]; then
    echo "missing: $1"
    missing=1
    return 1
  fi
  echo "changed: $1"
}

# Ends with the last lines of the log, without the credentials that URLs may hold; $1 is what failed.
failed() {
  tail -n 20 "$log" | sed 's|://[^/@ ]*@|://***@|g' >&2
  fail "\`$1\` failed; its last lines are above. Mend the cause and run this again; what was done stays."
}

# Runs a command whose output matters only when it fails.
quietly() {
  "$@" > "$log" 2>&1 < /dev/null || failed "$*"
}

# Succeeds where version $1 is $2 or newer.
at_least() {
  [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]
}

system() {
  # shellcheck source=/dev/null
  . /etc/os-release
  case "${ID:-}:${VERSION_ID:-}" in
    debian:12 | debian:13 | ubuntu:22.04 | ubuntu:24.04) ;;
    *) fail "this is ${PRETTY_NAME:-an unknown system}; Debian 12 and 13, Ubuntu 22.04 and 24.04 can be prepared. \
Install a Docker engine from $OLDEST_ENGINE on by hand, as docs/host-preparation.md tells, and leave \`prepare\` out" ;;
  esac
  echo "system: $PRETTY_NAME"
}

clock() {
  here=$(date +%s)
  apart=$((here > now ? here - now : now - here))
  [ "$apart" -le "$CLOCK_SECONDS" ] || fail "the clock here and the operator's are $apart s apart: S3 requests would be \
refused and schedules run at the wrong time. Set whichever is wrong: \`apt-get install systemd-timesyncd && \
timedatectl set-ntp true\`"
  echo "clock: within $CLOCK_SECONDS s of the operator's"
}

# Names the closest directory that exists, of one that may not exist yet.
closest() {
  place=$1
  while [ ! -d "$place" ]; do place=$(dirname "$place"); done
  echo "$place"
}

disk() {
  root=$(docker info --format '{{.DockerRootDir}}' 2> /dev/null) || root=
  for directory in "${root:-/var/lib/docker}" "$DATA_DIRECTORY"; do
    [ "$directory" ] || continue
    free=$(df --output=avail --block-size=1M "$(closest "$directory")" | tail -n 1)
    [ "$free" -ge "$FREE_MB" ] || fail "only $((free)) MiB are free for $directory, and images and data need $FREE_MB \
MiB to begin with. Free some, or mount a larger disk there"
    echo "disk: $((free)) MiB free for $directory"
  done
}

# The running engine's version, nothing where none answers.
engine_version() {
  docker version --format '{{.Server.Version}}' 2> /dev/null || true
}

engine() {
  new=no
  [ "$(engine_version)" ] || command -v dockerd > /dev/null || {
    change "Docker engine installed" || return 0
    install_engine
    [ -e "$CONFIGURATION" ] || new=yes
  }
  [ "$(engine_version)" ] || {
    change "Docker engine started" || return 0
    start_engine
  }
  [ "$new" = no ] || admit_provider
  version=$(engine_version)
  at_least "$version" "$OLDEST_ENGINE" || fail "the Docker engine here is $version, and $OLDEST_ENGINE is the oldest \
that will do. Upgrade it when its containers may stop; that is not done by itself"
  echo "engine: $version"
}

install_engine() {
  # The first boot of a cloud image may still be installing packages.
  ! command -v cloud-init > /dev/null || timeout 300 cloud-init status --wait > /dev/null 2>&1 || true
  refresh_packages
  install_packages ca-certificates curl iptables
  # shellcheck source=/dev/null
  . /etc/os-release
  if docker_source "$DOCKER_SITE/$ID" "$VERSION_CODENAME"; then
    refresh_packages
    install_packages docker-ce docker-ce-cli containerd.io
  else
    echo "engine: $DOCKER_SITE does not answer, or not with the key that is known, so it is the distribution's"
    install_packages docker.io
    command -v docker > /dev/null || install_packages docker-cli # a package of its own since Debian 13
  fi
}

refresh_packages() {
  # While another apt runs, this one fails at once.
  tries=30
  until apt-get update -q > "$log" 2>&1 < /dev/null; do
    if [ "$tries" -eq 0 ] || ! grep -q 'Could not get lock' "$log"; then failed "apt-get update"; fi
    tries=$((tries - 1))
    sleep 10
  done
}

install_packages() {
  quietly apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@"
}

# Adds Docker's own packages to what apt knows: $1 URL of the distribution's, $2 its release.
docker_source() {
  ! grep -rqs "^[^#]*$DOCKER_SITE" /etc/apt/sources.list /etc/apt/sources.list.d || return 0
  curl -fsS --max-time 20 "$1/dists/$2/Release" > /dev/null 2>&1 || return 1
  key=$(mktemp)
  if ! curl -fsS --max-time 20 "$1/gpg" > "$key" || ! echo "$DOCKER_KEY_SHA256  $key" | sha256sum --check --status; then
    rm -f "$key"
    return 1
  fi
  mkdir -p "$(dirname "$KEY")"
  install -m 0644 "$key" "$KEY"
  rm -f "$key"
  cat > "$SOURCE" << TEXT
Types: deb
URIs: $1
Suites: $2
Components: stable
Architectures: $(dpkg --print-architecture)
Signed-By: $KEY
TEXT
}

start_engine() {
  if [ -d /run/systemd/system ]; then
    quietly systemctl enable --now docker.service
  else
    quietly service docker start
  fi
  await_engine
}

await_engine() {
  tries=$ENGINE_SECONDS
  until [ "$(engine_version)" ]; do
    [ "$tries" -gt 0 ] || fail "the Docker engine was started and does not answer within $ENGINE_SECONDS s; see \
\`journalctl -u docker\` or /var/log/docker.log"
    tries=$((tries - 1))
    sleep 1
  done
}

# Lets a new engine, which has no containers yet, talk to a provider of before its time.
admit_provider() {
  ! at_least "$OLDEST_API" "$(docker version --format '{{.Server.MinAPIVersion}}')" || return 0
  mkdir -p "$(dirname "$CONFIGURATION")"
  echo "{\"min-api-version\": \"$OLDEST_API\"}" > "$CONFIGURATION"
  quietly service docker restart
  await_engine
}

member() {
  [ "$user" != root ] || return 0
  case " $(id -nG "$user") " in *" docker "*) return 0 ;; esac
  change "$user may use the Docker engine (group docker)" || return 0
  quietly usermod --append --groups docker "$user"
}

data_directory() {
  if [ -z "$DATA_DIRECTORY" ] || [ -d "$DATA_DIRECTORY" ]; then return; fi
  change "directory $DATA_DIRECTORY made" || return 0
  mkdir -p "$(dirname "$DATA_DIRECTORY")"
  mkdir -m 0700 "$DATA_DIRECTORY"
}

unit() {
  cat << TEXT
[Unit]
Description=Closes to neighbours what Docker leaves open
# With every start of the engine, before it opens a port; another version of it may need other rules.
Before=docker.service
PartOf=docker.service
Wants=network-online.target
After=network-online.target nftables.service netfilter-persistent.service ufw.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$PROGRAM

[Install]
WantedBy=docker.service
TEXT
}

# Puts text $3 into file $1 with mode $2, and says in `written` whether it was another.
put() {
  written=no
  [ "$(cat "$1" 2> /dev/null)" != "$3" ] || return 0
  change "file $1 written" || return 0
  fresh=$(mktemp "$1.XXXXXX")
  printf '%s\n' "$3" > "$fresh"
  chmod "$2" "$fresh"
  mv "$fresh" "$1"
  written=yes
}

firewall() {
  if [ "$PRIVATE_ADDRESS" ] && ! grep -qsxF "$PRIVATE_ADDRESS" "$PRIVATE_ADDRESSES" &&
    change "ports on $PRIVATE_ADDRESS kept to its own network"; then
    mkdir -p "$(dirname "$PRIVATE_ADDRESSES")"
    echo "$PRIVATE_ADDRESS" >> "$PRIVATE_ADDRESSES"
  fi
  put "$PROGRAM" 0755 "$FIREWALL"
  if [ -d /run/systemd/system ]; then
    put "/etc/systemd/system/$UNIT" 0644 "$(unit)"
    [ "$written" = no ] || quietly systemctl daemon-reload
    if ! systemctl is-enabled --quiet "$UNIT" 2> /dev/null && change "$UNIT enabled"; then
      quietly systemctl enable "$UNIT"
    fi
  else
    echo "firewall: without systemd, run $PROGRAM at every boot before the engine yourself"
  fi
  if [ -x "$PROGRAM" ] && ! "$PROGRAM" --check && change "firewall closed to neighbours"; then
    quietly "$PROGRAM"
  fi
  [ "$missing" = 1 ] || echo "firewall: closed to neighbours"
}

main() {
  system
  clock
  disk
  engine
  member
  data_directory
  firewall
  [ "$missing" = 0 ] || exit 1
  echo "ready"
}

main < /dev/null
