"""Seconds of one engine iteration and of starting an engine; fitting them to measurements. Pure."""
