"""The quantizer service and its worker: floating-point models in, integer models with known accuracy out."""
