"""Bytes and names on the wire: schemas, codec, registry, headers, topics, and the producer of the relay."""
