"""Changed copies of training documents, and dropped tokens."""
