"""MONAI Label's and FastAPI's side: the datastore, the tasks, the endpoints and what guards them."""
