"""Contents of the page, as plain data."""
