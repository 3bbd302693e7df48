"""`python -m coordsvc`: the same as the `coordsvc` program."""

from coordsvc.cli import main

if __name__ == "__main__":
    main()
