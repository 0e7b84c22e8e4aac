"""What `monailabel start_server --app apps/mdal_ciml` loads."""

from lib.runtime.processes import end_with_the_server

end_with_the_server()  # of a job, before the app, which takes seconds to import

from lib.app import MdalCimlApp  # noqa: E402, F401  MONAI Label looks for it here
