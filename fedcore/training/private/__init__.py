"""Training under example-level differential privacy (DP-SGD): coins, clipped sums, noise."""
