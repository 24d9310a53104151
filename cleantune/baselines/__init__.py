"""Models to compare with: n-grams, TF-IDF, recurrent networks."""
