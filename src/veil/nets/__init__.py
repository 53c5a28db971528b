"""Architectures by their field names; no method is named here."""
