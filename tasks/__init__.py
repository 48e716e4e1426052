"""Thin Prefect tasks: one fedcore call each, plus names, tags, retries and artifacts."""
