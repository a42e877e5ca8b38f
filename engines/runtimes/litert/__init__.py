"""LiteRT, which was called TensorFlow Lite."""
