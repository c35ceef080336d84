"""The read model: the journal folded into what people read."""
