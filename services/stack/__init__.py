"""The embedded stack: all services on one machine as supervised processes, with a Redis-compatible server."""
