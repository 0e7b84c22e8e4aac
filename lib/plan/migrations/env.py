"""Run by alembic: the scripts go through the connection, and into the transaction, of whoever asked."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.get_main_option("version_table"),
)
context.run_migrations()
