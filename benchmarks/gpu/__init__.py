"""What one GPU really does, piece by piece: `python -m benchmarks.gpu.all` (docs/gpu.md)."""
