#!/bin/sh
# `server /data` and `minio server /data` both run MinIO; anything else is an argument of it, too.
[ "${1:-}" = minio ] || set -- minio "$@"
exec "$@"
