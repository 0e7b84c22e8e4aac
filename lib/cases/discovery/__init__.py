"""Where the cases of a studies folder are found, and why a file was left out."""
