"""The checks: each reads the sample table and returns findings; nothing else."""
