"""What a plugin's own tests need: small stand-ins for the five contracts."""

from precomp_sdk.testing.doubles import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask

__all__ = ["FakeCodec", "FakeDataset", "FakePreprocessor", "FakeProxy", "FakeTask"]
