"""What every row goes through on its way into the table, whoever collected it.

`draft` is a row on its way, with what is wrong with it and what is to be known of it; then in this order:
`names` (the catalogue's), `layout` (tp, dp, replicas, pools), `align` (lengths, throughputs, one statistic),
`checks` (what no measurement can break), `duplicates` (the same run in two files).
"""
