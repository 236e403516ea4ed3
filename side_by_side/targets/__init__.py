"""The brokers that a kitchen can run on, each with what can be done to it."""
