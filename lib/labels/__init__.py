"""WHAT readers said: label files, their register, and their exchange with a PACS."""
