#!/bin/sh
# Closes to a host's neighbours what Docker engines before 28 leave open to them:
#   - a port published on 127.0.0.1 answers those who send packets for 127.0.0.1 to the host's network card;
#   - a published port also answers at the container's own address, to those who route it to the host.
# From 28 on engines do that themselves (https://docs.docker.com/engine/network/packet-filtering-firewalls/), and this
# program takes its rules away. It touches no other rules, and nothing that the host itself serves, ssh for one.
#
# usage: prefect-environment-firewall [--check]
#   --check  change nothing; end with 1 where something is to be done
set -eu
CHAIN=PREFECT-ENVIRONMENT
CLOSED_BY_ENGINE=28
# Docker fills it with a DROP for every bridge of its own, whatever that is called, and keeps it so.
TO_A_BRIDGE=DOCKER-ISOLATION-STAGE-2

# iptables or ip6tables, whichever is the turn of; others may be changing rules, too.
table() {
  "$family" -w 30 "$@"
}

wanted() {
  # Answers, what came in through a published port, and what two containers of one network say to each other.
  echo "-A $CHAIN -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j RETURN"
  echo "-A $CHAIN -m physdev --physdev-is-bridged -j RETURN"
  echo "-A $CHAIN -j $TO_A_BRIDGE"
}

loopback() {
  # Before Docker's rules give such a packet the container's address; IPv6 drops those for ::1 by itself.
  table -t raw "$1" PREROUTING ! -i lo -d 127.0.0.0/8 -m comment --comment "$CHAIN" -j DROP
}

jump() {
  table -C DOCKER-USER -j "$CHAIN" 2> /dev/null
}

there() {
  [ "$family" = ip6tables ] || loopback -C 2> /dev/null || return 1
  [ "$(table -S "$CHAIN" 2> /dev/null | grep '^-A' | tr -s ' ')" = "$(wanted)" ] && jump
}

add() {
  # The engine makes these two only if they are missing, so this can come first.
  for chain in DOCKER-USER "$TO_A_BRIDGE"; do
    table -n -L "$chain" > /dev/null 2>&1 || table -N "$chain"
  done
  "$family-restore" -w 30 -n << TEXT
*filter
:$CHAIN - [0:0]
$(wanted)
COMMIT
TEXT
  if ! jump; then
    # Behind what the administrator allows there, before the RETURN that Docker ends it with.
    rules=$(table -S DOCKER-USER | grep '^-A' || true)
    if [ "${rules##*-A }" = "DOCKER-USER -j RETURN" ]; then
      table -I DOCKER-USER "$(echo "$rules" | wc -l)" -j "$CHAIN"
    else
      table -A DOCKER-USER -j "$CHAIN"
    fi
  fi
  [ "$family" = ip6tables ] || loopback -C 2> /dev/null || loopback -I
}

absent() {
  ! table -n -L "$CHAIN" > /dev/null 2>&1
}

remove() {
  ! jump || table -D DOCKER-USER -j "$CHAIN"
  table -F "$CHAIN"
  table -X "$CHAIN"
  [ "$family" = ip6tables ] || ! loopback -C 2> /dev/null || loopback -D
}

case "$*" in
  '' | --check) ;;
  *)
    echo "usage: prefect-environment-firewall [--check]" >&2
    exit 2
    ;;
esac
major=$(dockerd --version 2> /dev/null | sed -n 's/^Docker version \([0-9]*\).*/\1/p')
for family in iptables ip6tables; do
  # A kernel without IPv6 has nothing to close.
  [ "$family" = iptables ] || table -n -L DOCKER-USER > /dev/null 2>&1 || table -n -L FORWARD > /dev/null 2>&1 || continue
  if [ "${major:-0}" -lt "$CLOSED_BY_ENGINE" ]; then
    there || { [ "$*" != --check ] && add; } || exit 1
  else
    absent || { [ "$*" != --check ] && remove; } || exit 1
  fi
done
