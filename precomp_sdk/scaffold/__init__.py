"""Skeletons of plugins: distributions that work as written, to be changed step by step."""

from precomp_sdk.scaffold.writing import KINDS, new_plugin

__all__ = ["KINDS", "new_plugin"]
