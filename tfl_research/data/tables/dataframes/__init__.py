"""DataFrames and Arrow tables as client data, with a row for each example.

`frames` makes arrays of columns, `clients` says whose row it is, and `arrow` reads
Parquet files and saved Hugging Face data sets.
"""
