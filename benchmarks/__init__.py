"""What the README's numbers come from: each script runs the product's own configurations.

| script | report | takes (one thread) |
|---|---|---|
| ``python -m benchmarks.heart_disease`` | ``reports/heart-disease.md`` | minutes |
| ``python -m benchmarks.pneumonia`` | ``reports/pneumoniamnist.md`` | half an hour |
| ``python -m benchmarks.breast`` | ``reports/breastmnist.md`` | a quarter of an hour |
| ``python -m benchmarks.mnist_rounds`` | ``reports/mnist-rounds.md`` | hours |
"""
