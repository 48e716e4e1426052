"""Partitioners: which training sample belongs to which client."""
