"""What the fake services have in common: how they speak HTTP, and their faults, to be switched on
while the shop runs.
"""
