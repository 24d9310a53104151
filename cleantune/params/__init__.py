"""params.yaml: schema, reading, error messages."""
