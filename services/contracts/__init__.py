"""Everything that the services exchange: job spec, stream messages, events, ids, policy manifests. No transport."""
