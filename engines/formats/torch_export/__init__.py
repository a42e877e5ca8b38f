"""Code shared by the formats that yield a torch network: running it, and exporting it to ONNX."""
