"""Widgets that draw lines. Each is thin: what it shows comes from a pure layout function."""
