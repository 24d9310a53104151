"""Experiments on quality: what a method is worth, measured on real data."""
