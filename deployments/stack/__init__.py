"""The local stack: Prefect server, MLflow server and one worker, all state under one folder."""
