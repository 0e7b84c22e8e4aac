"""How the tables came to be, one script a revision; alembic runs those that a database lacks."""
