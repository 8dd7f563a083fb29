"""How figures and documents are called and drawn where people read them: in the dashboard and in the client."""
