"""Low-rank adapters of many clients made into one: maths only; symbols in docs/adapters.md."""
