"""A deployment in steps: workers of an older commit beside those of this one, on one store and one
broker.
"""
