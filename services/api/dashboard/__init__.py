"""The dashboard: pages about jobs, rendered on the server. It reads through the API's use cases."""
