"""`python -m runner` is `crsweep`."""

from runner.entry import main

main()
