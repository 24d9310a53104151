"""The page for reviewing flagged labels."""
