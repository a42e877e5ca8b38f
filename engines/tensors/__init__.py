"""What a model takes and gives: signatures, tensor information, shapes, samples."""
