"""What a server starts beside itself: a command that ends with the server."""

from lib.runtime.processes import become_a_job

if __name__ == "__main__":
    become_a_job()  # before the command, which takes seconds to import

    from lib.cli.main import main

    main()
