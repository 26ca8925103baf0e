"""Histories of every release, kept for ever: what was recorded once must replay on each later
release.
"""
