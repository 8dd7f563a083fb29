"""How a service runs: logging, lifecycle, heartbeats, Redis connections, acknowledged streams. No domain words."""
