"""Who may do what: keys, projects, quotas, limits, the audit log, and one guard before every handler."""
