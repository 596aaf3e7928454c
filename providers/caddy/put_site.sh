#!/bin/sh
# Puts what it reads into FILE and lets Caddy serve CADDYFILE anew; where either is refused, both are as they were.
# Runs in Caddy's container, to its end: whoever started it may be gone by then.
#
# put_site.sh FILE CADDYFILE BYTES [HOST...]
#   BYTES: how many are read; 0 removes FILE
#   HOST: Caddy's configuration must name it with FILE and not without, else CADDYFILE does not import FILE, or has
#     routes of its own for it
# The exit codes are read in site_file.py.
set -u
umask 077
file=$1 caddyfile=$2 bytes=$3
shift 3
beside=${file%/*}/.${file##*/} # Hidden: an import of * passes it over.
new=$beside.new
old=$beside.old   # what FILE was,
none=$beside.none # or that there was none

configured() { case $config in *"\"$1\""*) ;; *) return 1 ;; esac }
adapt() { config=$(caddy adapt --config "$caddyfile" --adapter caddyfile); }
reload() { caddy reload --config "$caddyfile" --adapter caddyfile; }

restore() {
  rm -f "$new"
  if [ -e "$old" ]; then mv -f "$old" "$file"; else rm -f "$file" "$none"; fi
}

refuse() {
  restore
  exit "$1"
}

command -v caddy > /dev/null || exit 64
mkdir -p "${file%/*}" && cat > "$new" || exit 65
if [ "$(wc -c < "$new")" -ne "$bytes" ]; then
  rm -f "$new"
  exit 66
fi

# Where an earlier run was killed, FILE was not accepted yet: what it had saved is still what to go back to.
if ! [ -e "$old" ] && ! [ -e "$none" ]; then
  if [ -e "$file" ]; then cp -p "$file" "$old"; else : > "$none"; fi || exit 65
fi
trap 'refuse 67' HUP INT TERM

# Nothing of this is served before the reload.
: > "$file" || refuse 65
adapt || refuse 68
case $config in *'"admin":{"disabled":true'*) refuse 69 ;; esac
if [ "$bytes" -gt 0 ]; then
  for host; do
    if configured "$host"; then
      echo "$host" >&2
      refuse 70
    fi
  done
  mv -f "$new" "$file" || refuse 65
  adapt || refuse 71
  for host; do
    if ! configured "$host"; then
      echo "$host" >&2
      refuse 72
    fi
  done
else
  rm -f "$new" "$file" || refuse 65
  adapt 2> /dev/null || : > "$file" # A Caddyfile that imports it by its whole name needs one.
fi
if ! reload; then
  restore
  # For the case that it was done nevertheless, and only the answer got lost.
  reload > /dev/null 2>&1
  exit 73
fi
rm -f "$old" "$none"
