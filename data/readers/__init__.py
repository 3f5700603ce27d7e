"""Readers of benchmark tools' own files: each turns a result into rows for the benchmark table.

`records` reads files of any size, `draft` holds what readers share, one module per tool has its fields, units
and definitions in one map at the top, `registry` recognises a file by its content, `ingest` is the whole way
into the store. See docs/ingest.md.
"""
