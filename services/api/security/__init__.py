"""Access control: keys, projects, quotas, rate limits, the audit log, and one guard before every handler."""
