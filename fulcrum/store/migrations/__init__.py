"""The Postgres schema, as one linear chain of revisions in ``versions/``."""
