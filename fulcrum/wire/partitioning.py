"""In which partition does a key lie?"""

from __future__ import annotations

from aiokafka.partitioner import murmur2


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as every producer here computes it (Java's murmur2)."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions
