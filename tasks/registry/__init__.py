"""Runs and model versions in MLflow: logged, registered, compared, promoted, traced back."""
