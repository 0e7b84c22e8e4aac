"""What a server starts beside itself: a command that ends with the server."""

from lib.runtime.processes import end_with_the_server

if __name__ == "__main__":
    end_with_the_server()  # before the command, which takes seconds to import

    from lib.cli.main import main

    main()
