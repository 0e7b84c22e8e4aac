"""Cases: finding, checking and reading them, resampling them to one grid, and caching."""
