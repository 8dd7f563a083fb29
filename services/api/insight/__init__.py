"""What figures mean: the diagnosis of a job, what changed between two jobs, and a policy that plays to be watched."""
