"""The process: orchestration and nothing else."""
