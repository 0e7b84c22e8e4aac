"""What people see: documents, pictures, files, tables in a terminal, and the page's own files."""
