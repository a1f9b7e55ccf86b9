"""``python -m precomp_sdk`` is ``precomp``."""

from precomp_sdk.cli import main

main()
