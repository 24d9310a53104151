"""What measures the project, as `python -m benchmarks.NAME`."""
