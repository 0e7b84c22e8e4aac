"""What the page says, as plain data."""
