"""The commands of `roofcast`: one module per kind of user's task; `cli.py` puts them together."""
