"""What `monailabel start_server --app apps/mdal_ciml` loads."""

from lib.app import MdalCimlApp  # noqa: F401  MONAI Label looks for it here
