"""What every format that yields a torch network shares: it is run, and exported to ONNX."""
