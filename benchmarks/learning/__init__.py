"""A job's learning in one process, without services: the same mathematics, learner, environments and prompts."""
