"""The documentation's blocks of Python, run page by page: each after the ones before it, among what
the page says is there. What a page needs beside that is its *scenery*, a module of this package.
"""
