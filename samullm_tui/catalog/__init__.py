"""What ships with the program about known LLMs: shapes, output lengths, measured profiles. Reads `data/`."""
