"""What the page and the report show of a site, as plain data and pictures."""
