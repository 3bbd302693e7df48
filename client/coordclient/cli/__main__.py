"""`python -m coordclient.cli`: the same as the `coordctl` program."""

from coordclient.cli import main

if __name__ == "__main__":
    main()
