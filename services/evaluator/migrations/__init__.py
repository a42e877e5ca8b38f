"""Tables of the evaluator."""
