"""Helpers that tests share: a real broker, a manual clock, builders, waiting for events."""
