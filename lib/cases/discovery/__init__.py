"""Discovery of the cases in a studies folder, and the reasons why files are left out."""
