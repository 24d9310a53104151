"""Base models and classifiers: loading, padding, pooling, attention, ONNX."""
