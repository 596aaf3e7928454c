"""Dynamic resources: what lives inside MinIO and Prefect, one resource a file.

Module paths and class names in here are state format: every stack's state holds them, pickled by reference.
"""
