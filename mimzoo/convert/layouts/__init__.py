"""One layout, or the variants of one, a file. `LAYOUTS` of each is found by its name."""
