"""The embedded stack: every service on one machine as supervised processes, with a Redis-compatible server of its own."""
