"""Differential privacy: noise that only its owner can compute, what it is worth, who spent what."""
