"""One file for each page: HTTP in, use case, template out."""
