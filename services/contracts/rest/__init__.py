"""Bodies of the REST API, used by the API and its client. SQL tables have their own classes, so that they can change
without the REST API."""
