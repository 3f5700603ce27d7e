"""Builds the benchmark table from the collected sources.

Reading order: `raw` (the files as one draft frame), `families` (which rule reads which source), the rules
themselves (`inferencex`, `aic`, `mlperf`, `vendor`, `academic`, `serving`), what every row goes through
(`names`, `layout`, `twins`, `align`, `checks`, `dedupe`), and `build`, which puts them in order.
"""
