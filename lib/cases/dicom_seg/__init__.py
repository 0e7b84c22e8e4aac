"""DICOM SEG: a label written against one series, and read back by the names of its segments."""
