"""Data contracts: Great Expectations suites and our own leakage expectations."""
