"""Command line of MDAL-CIML; also what `monailabel start_server --app .` loads."""

if __name__ == "__main__":
    from lib.cli.main import main

    main()
elif __name__ != "__mp_main__":  # a process that only shares the work of one does without the server
    from lib.runtime.processes import become_a_job

    become_a_job()  # before the app, which takes seconds to import

    from lib.app import MdalCimlApp  # noqa: F401  MONAI Label looks for it here
