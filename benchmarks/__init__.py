"""Speed and memory, as `python -m benchmarks.NAME`."""
