"""The whole system in one process and virtual time, driven by one seed.

The real shells of all services run, each process on its own event loop (`loop`). One `world` schedules them. They talk
to a simulated broker (`broker`, `stream`, `consumer`, `client`, `network`).
"""
