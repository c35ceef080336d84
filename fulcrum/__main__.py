"""``python -m fulcrum`` is the ``fulcrum`` command."""

from fulcrum.cli.main import main

if __name__ == "__main__":
    main()
