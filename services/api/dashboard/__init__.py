"""The dashboard: pages made on the server, for people who look at jobs. It reads through the API's use cases."""
