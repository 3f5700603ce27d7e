"""Facts: hardware and model catalogues, the benchmark table and its readers."""
