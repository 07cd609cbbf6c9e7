"""The package's version, which every record and cache key carries."""

__version__ = "0.1.0"
