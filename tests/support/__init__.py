"""What tests share: a real broker, a hand-turned clock, builders, waiting for events."""
