"""The page on which a person reviews suspect labels, and what it shows of each."""
