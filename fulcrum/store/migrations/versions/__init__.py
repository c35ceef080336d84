"""One module a revision, named by its number; a published one never changes."""
