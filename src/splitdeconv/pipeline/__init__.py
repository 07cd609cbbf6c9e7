"""The road: open, time, choose, race, prove."""
