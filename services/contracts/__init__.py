"""What the services say to each other: job spec, stream messages, identities, policy manifests. No transport."""
