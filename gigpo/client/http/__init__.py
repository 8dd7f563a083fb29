"""What both clients share: what a call sends, what its answer means, what is repeated; no I/O."""
