"""What the formats that yield a torch network share: it is run, and exported to ONNX."""
