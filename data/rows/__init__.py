"""What every row goes through on its way into the table, whoever collected it.

`draft` is a row on its way, `faults` what is wrong with it and what is to know of it, then in this order:
`names` (the catalogue's), `layout` (tp, dp, replicas, pools), `align` (lengths, throughputs, one statistic),
`checks` (what no measurement can break), `duplicates` (the same run told twice).
"""
