"""`python -m tegakari.cli`, where the script is not on the path."""

from tegakari.cli import main

if __name__ == "__main__":
    main()
