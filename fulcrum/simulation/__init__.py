"""The whole saga in virtual time, with faults drawn from a seed: one thread, no servers, no sleeping.

Around the real pure core (``fulcrum.saga``) stand small models of everything else: Kafka's logs, the agents'
process with its table, the command queues, the workers with inbox, fence and outbox, provider and parcels.
They follow the rules of the real ones, die between any two steps, and are read in any order that Kafka and
RabbitMQ allow. The invariants are checked while it runs, and the ends when it has come to rest.
"""
