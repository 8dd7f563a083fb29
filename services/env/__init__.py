"""The environment service: live environments behind leases."""
