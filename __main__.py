"""The command line as `python -m hunch`."""

from .cli import main

if __name__ == "__main__":
    main()
