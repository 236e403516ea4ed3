"""The programs of the peers, set up as their documentation says, all with persistent messages, a quorum
queue and acknowledgements.
"""
