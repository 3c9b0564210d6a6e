"""Side-by-side measurements: ratios within one process, never absolute times across runs."""
