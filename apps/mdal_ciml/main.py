"""What `monailabel start_server --app apps/mdal_ciml` loads."""

from lib.runtime.processes import become_a_job

become_a_job()  # before the app, which takes seconds to import

from lib.app import MdalCimlApp  # noqa: E402, F401  MONAI Label looks for it here
