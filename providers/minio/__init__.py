"""What lives inside MinIO: buckets, users, policies, access keys and trees of objects."""
