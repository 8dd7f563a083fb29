"""Where a job's figures go beside metrics.jsonl: TensorBoard always, MLflow, Weights & Biases and trackio by name.

All of them are views of what the job's folder holds. Each is fed by a thread of its own, so that training never waits
for one; one that fails is warned of and left alone until the job is taken up again, when it gets what it lacks.
"""
