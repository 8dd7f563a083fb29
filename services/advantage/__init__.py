"""The advantage service: groups of finished episodes in, advantages out, the same bytes whoever computes them."""
