"""What breaks processes, networks and brokers: used by ``baozi prove`` and by the tools of the repository."""
