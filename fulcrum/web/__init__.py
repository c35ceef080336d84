"""The HTTP API: takes intents in, and shows what became of them."""
