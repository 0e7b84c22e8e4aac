"""Labels of the cases: label files, their register, and their exchange with a PACS."""
