"""What backs a claim: the paper's figures, benchmarks, robustness tests, results."""
