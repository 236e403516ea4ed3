"""The peers, set up as their documentation says: persistent messages, a quorum queue, acknowledgements."""
