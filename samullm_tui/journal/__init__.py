"""The journal of a run: framing, appending, reading, and the fold of its events into a state."""
