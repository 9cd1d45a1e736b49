"""The two paths, each to be read from top to bottom, and what others learn of the link."""
