"""AMQP: connections, publisher confirms, frames, reading, properties. It knows nothing of tasks."""
