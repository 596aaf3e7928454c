"""What lives inside a Caddy that is there already: a file of its configuration."""
