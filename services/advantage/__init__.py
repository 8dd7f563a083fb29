"""The advantage service: groups of finished episodes in, advantages out. Every instance computes the same bytes."""
