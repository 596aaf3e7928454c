#!/bin/sh
# Closes to a host's neighbours what Docker leaves open to them:
#   - a port published on 127.0.0.1 answers those who send packets for 127.0.0.1 to the host's network card, and
#   - a published port also answers at the container's own address, to those who route it to the host; from 28 on
#     engines close these two themselves (https://docs.docker.com/engine/network/packet-filtering-firewalls/);
#   - a port published on an address of a private network answers those at the other, public card, too.
# It touches no other rules, and nothing that the host itself serves, ssh for one.
#
# usage: prefect-environment-firewall [--check]
#   --check  change nothing; end with 1 where something is to be done
set -eu
CHAIN=PREFECT-ENVIRONMENT
CLOSED_BY_ENGINE=28
# IPv4, one a line; those of all stacks on this host.
PRIVATE_ADDRESSES=/etc/prefect-environment/private-addresses
# Docker fills it with a DROP for every bridge of its own, whatever that is called, and keeps it so.
TO_A_BRIDGE=DOCKER-ISOLATION-STAGE-2

# iptables or ip6tables, whichever is the turn of; others may be changing rules, too.
table() {
  "$family" -w 30 "$@"
}

# Network cards that a default route leads out of.
uplinks() {
  ip -4 -o route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | sort -u
}

wanted() {
  if [ "$version" = 4 ] && [ -f "$PRIVATE_ADDRESSES" ]; then
    while read -r address; do
      for card in $(uplinks); do
        [ -z "$(ip -o address show dev "$card" to "$address")" ] || continue
        echo "-A $CHAIN -i $card -m conntrack --ctstate DNAT --ctorigdst $address --ctdir ORIGINAL -j DROP"
      done
    done < "$PRIVATE_ADDRESSES"
  fi
  [ "$engine" -lt "$CLOSED_BY_ENGINE" ] || return 0
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

loopback_right() {
  have=no want=no
  if loopback -C 2> /dev/null; then have=yes; fi
  if [ "$version" = 4 ] && [ "$engine" -lt "$CLOSED_BY_ENGINE" ]; then want=yes; fi
  [ "$have" = "$want" ]
}

right() {
  [ "$(table -S "$CHAIN" 2> /dev/null | grep '^-A' | tr -s ' ')" = "$rules" ] || return 1
  [ -z "$rules" ] || jump || return 1
  loopback_right
}

set_right() {
  if [ "$rules" ]; then add; else remove; fi
  loopback_right || if [ "$want" = yes ]; then loopback -I; else loopback -D; fi
}

add() {
  # The engine makes these two only where they are missing, so this can come first.
  for chain in DOCKER-USER "$TO_A_BRIDGE"; do
    table -n -L "$chain" > /dev/null 2>&1 || table -N "$chain"
  done
  "$family-restore" -w 30 -n << TEXT
*filter
:$CHAIN - [0:0]
$rules
COMMIT
TEXT
  ! jump || return 0
  # Behind what the administrator allows there, before the RETURN that Docker ends it with.
  there=$(table -S DOCKER-USER | grep '^-A' || true)
  if [ "${there##*-A }" = "DOCKER-USER -j RETURN" ]; then
    table -I DOCKER-USER "$(echo "$there" | wc -l)" -j "$CHAIN"
  else
    table -A DOCKER-USER -j "$CHAIN"
  fi
}

remove() {
  ! jump || table -D DOCKER-USER -j "$CHAIN"
  if table -n -L "$CHAIN" > /dev/null 2>&1; then
    table -F "$CHAIN"
    table -X "$CHAIN"
  fi
}

case "$*" in
  '' | --check) ;;
  *)
    echo "usage: prefect-environment-firewall [--check]" >&2
    exit 2
    ;;
esac
engine=$(dockerd --version 2> /dev/null | sed -n 's/^Docker version \([0-9]*\).*/\1/p')
engine=${engine:-0}
for version in 4 6; do
  family=iptables
  if [ "$version" = 6 ]; then
    family=ip6tables
    # A kernel without IPv6 has nothing to close.
    table -n -L FORWARD > /dev/null 2>&1 || continue
  fi
  rules=$(wanted)
  if right; then continue; fi
  [ "$*" != --check ] || exit 1
  set_right
done
