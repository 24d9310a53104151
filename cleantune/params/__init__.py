"""params.yaml: its schema, reading it, and what it says of a mistake."""
