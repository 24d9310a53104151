"""What a person runs by hand, as `python -m tools.NAME`."""
