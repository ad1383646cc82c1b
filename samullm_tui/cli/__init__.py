"""The command line: one command per verb, thin. The README lists them."""
