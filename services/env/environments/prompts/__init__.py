"""Single-turn prompts with reward functions, as a one-step environment."""
