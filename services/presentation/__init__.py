"""Names and drawing of figures and documents for people, shared by the dashboard and the client."""
