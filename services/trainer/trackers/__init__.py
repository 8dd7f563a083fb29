"""Trackers of a job's figures beside metrics.jsonl: TensorBoard always; MLflow, Weights & Biases and trackio by name.

All of them show data of the job's folder. Each has its own thread, so that training never waits for one. A tracker that
fails causes a warning and pauses until a trainer takes the job up again; then it gets the missing rows.
"""
