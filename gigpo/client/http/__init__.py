"""One definition of each call for both clients: what is sent, what the answer means, what is repeated; no I/O."""
