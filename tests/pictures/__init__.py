"""Drawings that are kept as files, so that a change of them is seen in review: ``python -m
tests.pictures`` renews them.
"""
