"""Makes client data from DataFrames and Arrow tables, with a row for each example.

`frames` makes arrays from columns, `clients` finds the client of each row, and `arrow`
reads Parquet files and saved Hugging Face data sets.
"""
