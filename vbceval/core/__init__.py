"""Shared words of the package; nothing here knows about health care."""
