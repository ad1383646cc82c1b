"""Engines and whole applications simulated: the exact schedule of vLLM, jumped from event to event."""
