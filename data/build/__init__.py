"""The workshop that built the shipped table from the collected files: see __main__.py."""
