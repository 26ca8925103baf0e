"""A fake of a warehouse that also delivers: its HTTP API, its shelves, and the calls it makes when
a parcel arrives.
"""
