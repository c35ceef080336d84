"""The ``fulcrum`` command."""
