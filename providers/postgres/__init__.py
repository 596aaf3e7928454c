"""What lives inside the stack's Postgres."""
