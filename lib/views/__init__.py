"""Output for people: documents, pictures, files, tables in a terminal, and the page's own files."""
