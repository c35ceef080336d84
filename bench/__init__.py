"""Load, what it costs, and whether everything still holds afterwards."""
