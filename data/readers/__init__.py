"""Readers of benchmark tools' own files: each turns a result into draft rows for the benchmark table.

`records` reads files, `base` holds what readers share, one module per tool has its fields, units and
definitions in one map at its top, `recognise` knows a file by its content. See docs/ingest.md.
"""
