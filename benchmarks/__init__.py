"""Each benchmark prints a table of ratios against a baseline in the same run: `make bench`."""
