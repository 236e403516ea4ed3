"""The brokers into which ``baozi chaos`` can inject faults: one node, or a cluster of three."""
