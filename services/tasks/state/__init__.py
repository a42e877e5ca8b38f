"""The state of tasks: the state machine, the rows, and the messages that follow from them."""
