"""The saga: messages, definitions, the state of a run, and the one function that decides. Pure."""
