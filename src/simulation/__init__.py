"""The whole system in one process, one seed, and virtual time.

The real shells of all services run on event loops of their own (`loop`), scheduled by one `world`, over a simulated
broker (`broker`, `stream`, `consumer`, `client`, `network`).
"""
