"""Files, processes and devices; nothing here knows medicine."""
