"""The page and the model card that tell a reader how good the model is."""
