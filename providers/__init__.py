"""Dynamic resources: what lives inside MinIO, Prefect and somebody's Caddy, one resource a file.

Module paths and class names in here are state format: every stack's state holds them, pickled by reference.
"""
