"""Kafka in, decisions out: each agent iterates, asks, performs."""
