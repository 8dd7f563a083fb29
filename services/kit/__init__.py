"""The toolkit of all services: logs, lifecycle, heartbeats, Redis connections, acked streams. No domain words."""
