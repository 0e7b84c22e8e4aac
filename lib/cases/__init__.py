"""What a case is: found, checked, read, put on one grid, cached."""
