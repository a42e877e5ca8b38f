"""What the formats of TensorFlow share."""
