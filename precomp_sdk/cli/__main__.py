"""``python -m precomp_sdk.cli``."""

from precomp_sdk.cli import main

main()
