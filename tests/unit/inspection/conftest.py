"""The corpus is read, not run: it has tests of its own."""

collect_ignore = ["corpus"]
