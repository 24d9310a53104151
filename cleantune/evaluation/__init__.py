"""Metrics, confidence intervals and comparisons of classifiers, and the report."""
