"""Speed benchmarks, each of which prints ratios measured within one run."""
