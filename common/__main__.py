"""``python -m adaptiverec.common`` is the console command, wherever it is installed."""

from adaptiverec.common.cli import main

if __name__ == "__main__":
    main()
