"""The edge: HTTP in, use case, HTTP out."""
