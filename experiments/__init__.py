"""Evidence for the claims: the paper's figures, benchmarks, robustness tests and results."""
