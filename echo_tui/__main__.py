"""`python -m echo_tui`."""

from echo_tui.cli.main import main

if __name__ == "__main__":
    main()
