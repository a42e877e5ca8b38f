"""What a task is: its state machine, its rows, and the messages that follow from them."""
