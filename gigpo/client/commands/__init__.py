"""The subcommands of `gigpo`, one file a topic."""
